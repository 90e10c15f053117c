"""Checkpoints that are complete or not there: staged, listed in a manifest with hashes, then renamed.

A checkpoint is written to `.staging-checkpoint-<step>`; its manifest is written last, everything is flushed to disk, and
one rename makes it `checkpoint-<step>`. A killed save leaves only a staging folder, which the next start removes.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hf_crosstask.atomic import file_sha256, sync_directory, write_json, write_text
from hf_crosstask.errors import CheckpointError

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
WEIGHTS = "trained.safetensors"
CONSOLIDATION = "consolidation.safetensors"
_NAME = re.compile(r"^checkpoint-(\d+)$")
_STAGING = ".staging-"


#: Of one pair of tasks: both names, steps with both, sum of cosines, smallest cosine, steps with a negative cosine.
PairSums = tuple[str, str, int, float, float, int]


class WeightingState(BaseModel):
    """What a checkpoint holds of a rule that changes in training.

    Attributes:
        log_variances: `uncertainty`: the learned value of each task.
        windows: `dwa`: mean loss of each task in its last two windows, the older first.
        current: `dwa`: sum of item losses and number of items of each task in the window so far.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    log_variances: dict[str, float] = {}
    windows: dict[str, list[float]] = {}
    current: dict[str, tuple[float, float]] = {}


class StageScores(BaseModel):
    """Metrics of every task after one stage.

    Attributes:
        task: the stage's task.
        step: optimizer steps done at its end.
        metrics: by task and name, the mean loss as `loss` among them.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    task: str
    step: int
    metrics: dict[str, dict[str, float]]


class Progress(BaseModel):
    """What the trainer itself needs to go on, besides weights and optimizer (`progress.json`).

    Attributes:
        step: optimizer steps done.
        plan: fingerprint of the plan.
        run: fingerprint of what else must not change (the recipe and data, say).
        ledger: counts by task and name.
        loss_sums: per task, sum of item losses and number of items so far.
        seconds: training time so far, all sessions together.
        threads: CPU threads computing; sums are rounded differently with another number.
        weighting: state of a loss weighting that changes in training.
        conflicts: cosines of gradients so far; see `ConflictLog`.
        surgery_targets: GradVac's target similarities, [blocks, T, T].
        stage_scores: every task's metrics after each stage so far.
        formats: the numbers computed with, such as `bf16` or `fp16, nf4`; empty in earlier versions.
        energy: joules so far by part of the machine, None where they could not be read; empty in earlier versions.
    """

    # A diverged run has losses that are not numbers; its checkpoints are complete all the same.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    version: Literal[1] = 1
    step: int
    plan: str
    run: str
    ledger: dict[str, dict[str, int]]
    loss_sums: dict[str, tuple[float, float]]
    seconds: float
    threads: int
    formats: str = ""
    weighting: WeightingState = WeightingState()
    conflicts: list[PairSums] = []
    surgery_targets: list[list[list[float]]] = []
    stage_scores: list[StageScores] = []
    energy: dict[str, float | None] = {}


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    files: dict[str, str]


def staging_folder(output_dir: str | Path, step: int) -> Path:
    """Where the checkpoint of a step is put together."""
    return Path(output_dir) / f"{_STAGING}checkpoint-{step}"


def commit(staging: Path) -> Path:
    """Seal a staged checkpoint with its manifest and give it its name; an older one of that name is replaced."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    for path in files:
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    manifest = _Manifest(files={path.relative_to(staging).as_posix(): file_sha256(path) for path in files})
    write_json(staging / MANIFEST, manifest.model_dump())
    final = staging.with_name(staging.name.removeprefix(_STAGING))
    replaced = staging.with_name(f"{staging.name}-replaced")
    if final.exists():
        _remove(replaced)
        os.replace(final, replaced)
    os.replace(staging, final)
    sync_directory(final.parent)
    _remove(replaced)
    return final


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def remove_staging(output_dir: str | Path) -> None:
    """Remove what killed saves left behind."""
    for path in Path(output_dir).glob(f"{_STAGING}checkpoint-*"):
        shutil.rmtree(path)


def problem(checkpoint: str | Path) -> str | None:
    """What is wrong with a checkpoint folder; None where it is complete and undamaged."""
    folder = Path(checkpoint)
    try:
        manifest = _Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except ValidationError:
        return f"its {MANIFEST} is damaged"
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if file_sha256(path) != digest:
            return f"{name} is damaged"
    return None


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Checkpoint folders, oldest step first, complete or not."""
    found = [
        (int(match[1]), path)
        for path in Path(output_dir).glob("checkpoint-*")
        if (match := _NAME.match(path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(found)]


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint whose files all match its manifest."""
    return next((path for path in reversed(checkpoints(output_dir)) if problem(path) is None), None)


def write_progress(folder: str | Path, progress: Progress) -> Path:
    """Write `progress.json` into a staged checkpoint."""
    return write_text(Path(folder) / PROGRESS, progress.model_dump_json(indent=2) + "\n")


def read_progress(checkpoint: str | Path, *, plan: str, run: str, formats: str | None = None) -> Progress:
    """The progress a checkpoint holds.

    Args:
        checkpoint: its folder.
        plan, run: the fingerprints that it must have.
        formats: the numbers that training would go on with; None: not to be compared.

    Raises:
        CheckpointError: the checkpoint is incomplete, belongs to another plan or run, or was computed in other numbers.
    """
    broken = problem(checkpoint)
    if broken:
        raise CheckpointError(f"{checkpoint} cannot be resumed: {broken}")
    try:
        progress = Progress.model_validate_json((Path(checkpoint) / PROGRESS).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{checkpoint} cannot be resumed: it was not written by hf_crosstask") from None
    except ValidationError as error:
        raise CheckpointError(f"{checkpoint}/{PROGRESS} is not a progress file of this version: {error}") from error
    for what, stored, wanted in (("plan", progress.plan, plan), ("recipe or data", progress.run, run)):
        if stored != wanted:
            raise CheckpointError(
                f"{checkpoint} belongs to another {what} (fingerprint {stored[:12]}, this run's is {wanted[:12]}). Resume "
                "with the recipe and data it was started with, or start anew in another output_dir."
            )
    if progress.formats and formats is not None and progress.formats != formats:
        raise CheckpointError(
            f"{checkpoint} was computed in {progress.formats}, but here it would go on in {formats}, which is another "
            "model. Where a recipe's model.precision or model.quantization is auto, the device decides: resume on one like "
            "the first."
        )
    return progress


def rotate(output_dir: str | Path, limit: int | None, keep: Path | None) -> None:
    """Delete the oldest checkpoints over `limit`; never the newest, nor `keep` (the best one)."""
    if limit is None or limit <= 0:
        return
    found = checkpoints(output_dir)
    protected = {path for path in (found[-1] if found else None, keep) if path is not None}
    surplus = len(found) - limit
    for path in found:
        if surplus <= 0:
            break
        if path.resolve() in {kept.resolve() for kept in protected}:
            continue
        # Renamed first, so that a kill in the middle never leaves a damaged folder with a checkpoint's name.
        doomed = path.with_name(f"{_STAGING}{path.name}")
        os.replace(path, doomed)
        shutil.rmtree(doomed)
        surplus -= 1
