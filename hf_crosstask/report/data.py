"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_crosstask.evaluation.analysis import Analysis
from hf_crosstask.evaluation.result import RunResult
from hf_crosstask.study.record import StudyVerdict

#: The analyses that have a section, and the command that runs each.
ANALYSES: Mapping[str, tuple[str, str]] = {
    "data": ("Data exploration", "hf-crosstask data RECIPE --json FILE"),
    "contamination": ("Contamination", "hf-crosstask contamination RECIPE --json FILE"),
    "probe": ("Probing", "hf-crosstask probe RUN --json FILE"),
    "calibration": ("Calibration", "hf-crosstask calibration RUN --json FILE"),
    "errors": ("Errors", "hf-crosstask errors RUN --json FILE"),
    "bench": ("Inference", "hf-crosstask bench RUN --json FILE"),
}


@dataclass(frozen=True)
class StudyRun:
    """One finished run, and its place in the study.

    Attributes:
        id: the name of its folder.
        arm: the arm it belongs to.
        model: the model's name; empty where the study has one.
        tasks: the tasks it trained.
        seed: its seed.
        result: its result.
        folder: where it is.
    """

    id: str
    arm: str
    model: str
    tasks: tuple[str, ...]
    seed: int
    result: RunResult
    folder: Path


@dataclass(frozen=True)
class Dose:
    """One run of a dose-response arm: the other tasks' share of the tokens, and the target task's score."""

    arm: str
    model: str
    group: list[str]
    task: str
    share: float
    seed: int
    metric: str
    value: float


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows.

    Attributes:
        name, description: of the study.
        verdicts: label (model and task group; empty for the only one) to verdict.
        runs: the finished runs.
        problems: runs that are missing or refused, in words.
        analyses: kind to what was found; of several runs, several.
        doses: runs of dose-response arms.
        price_per_hour: of the machine, in the user's currency; None where not given.
    """

    name: str
    description: str
    verdicts: Mapping[str, StudyVerdict]
    runs: Sequence[StudyRun] = ()
    problems: Sequence[str] = ()
    analyses: Mapping[str, Sequence[Analysis]] | None = None
    doses: Sequence[Dose] = ()
    price_per_hour: float | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in the order of the runs."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))


@dataclass(frozen=True)
class Section:
    """A part of the report: an analysis under an anchor."""

    anchor: str
    content: Analysis
