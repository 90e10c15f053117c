"""Metrics, official scoring, predictions, intervals, the result of a run and its closing table.

Public names load on first use; metrics are in `hf_crosstask.evaluation.metrics`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_crosstask.evaluation.predictions import Predictions as Predictions
    from hf_crosstask.evaluation.predictions import Target as Target
    from hf_crosstask.evaluation.result import RunResult as RunResult
    from hf_crosstask.evaluation.result import read_result as read_result
    from hf_crosstask.evaluation.result import write_result as write_result
    from hf_crosstask.evaluation.scorer import Scorer as Scorer
    from hf_crosstask.evaluation.scorer import build_scorer as build_scorer
    from hf_crosstask.evaluation.scoring import Scoring as Scoring
    from hf_crosstask.evaluation.scoring import scoring_for as scoring_for
    from hf_crosstask.evaluation.table import print_table as print_table

_PUBLIC = {
    "Predictions": "hf_crosstask.evaluation.predictions",
    "RunResult": "hf_crosstask.evaluation.result",
    "Scorer": "hf_crosstask.evaluation.scorer",
    "Scoring": "hf_crosstask.evaluation.scoring",
    "Target": "hf_crosstask.evaluation.predictions",
    "build_scorer": "hf_crosstask.evaluation.scorer",
    "print_table": "hf_crosstask.evaluation.table",
    "read_result": "hf_crosstask.evaluation.result",
    "scoring_for": "hf_crosstask.evaluation.scoring",
    "write_result": "hf_crosstask.evaluation.result",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
