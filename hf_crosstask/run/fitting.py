"""`training.micro_batch_tokens: "auto"`: found once, kept in the run folder, and never found again for that run.

The size of micro-batches is part of the plan. A run that is resumed, be it on another device, keeps the plan it began
with, so it keeps the size that its first start found.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_crosstask.errors import CheckpointError
from hf_crosstask.run.prepare import Prepared, replan
from hf_crosstask.training.fitting import fit_micro_batch
from hf_crosstask.training.trainer import MultiTaskTrainer

FILE_NAME = "fitting.json"


def fitted(prepared: Prepared, build: Callable[[Prepared], MultiTaskTrainer], recorded: Path | None) -> Prepared:
    """The run with micro-batches of the size that fits; all processes take part.

    Args:
        prepared: the run, planned with the largest micro-batches there can be.
        build: makes its trainer.
        recorded: what an earlier start of the run found; None, or a file that is not there: find it now.

    Raises:
        CheckpointError: the record is damaged.
        InputError: not even one row fits.
    """
    found = _read(recorded) if recorded is not None and recorded.exists() else None
    if found is None:
        trainer = build(prepared)
        fit = fit_micro_batch(trainer)
        found = fit.to_json()
        if trainer.is_world_process_zero():
            print(
                f"micro-batches of {fit.micro_batch_tokens:,} tokens fit {fit.limit_bytes / 2**30:.1f} GiB of {fit.device}",
                file=sys.stderr,
            )
    return replace(replan(prepared, found["micro_batch_tokens"]), fitting=found)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
        if not isinstance(found["micro_batch_tokens"], int):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{file} does not say which micro-batch size the run began with; delete the run folder and start anew"
        ) from None
    return found
