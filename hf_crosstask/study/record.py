"""Verdicts as `statistics.json` holds them: frozen models, null where a value is not estimated or not asked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from hf_crosstask.study.aggregate import WinTieLoss
from hf_crosstask.study.effects import Equivalence, SeedEffects
from hf_crosstask.study.evidence import VerdictSettings
from hf_crosstask.study.multibootstrap import Estimate
from hf_crosstask.study.parity import ParityProof
from hf_crosstask.study.permutation import Permutation

Category = Literal["transfer", "negative_transfer", "equivalent", "undecided", "no_verdict"]
Overall = Literal["transfer", "negative_transfer", "mixed", "equivalent", "undecided", "no_verdict"]
Gain = Literal["transfer", "exposure", "transfer and exposure", "none shown"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArmScore(_Model):
    """An arm's scores: mean and standard deviation over seeds (null with one), and each seed's value."""

    mean: float
    sd: float | None
    per_seed: dict[int, float]


class ControlResult(_Model):
    """The multi-task arm against one control. `survived`: better than it, two-sided at alpha, uncorrected; `selection`: how
    the control's runs were chosen among others, by validation (envelope)."""

    arm: str
    mode: str
    rules_out: str
    difference: Estimate
    p_greater: float
    survived: bool
    parity: list[ParityProof]
    selection: str = ""


class TaskVerdict(_Model):
    """The verdict on one task; `hf_crosstask.study.verdict` defines the categories.

    `p_*` are two-sided. `claim` is what the verdict may be called: `confirmatory` needs enough seeds besides the
    declaration. `descriptive`: the test set is too small to test. `at_floor`: neither the multi-task arm nor the primary
    control is better than the trivial predictor, so that they cannot be called equivalent. `detectable`: the true
    difference that so many seeds and documents find with 80 % power. `permutation` is about the trained models at hand,
    `over_seeds` about seeds alone.
    """

    task: str
    metric: str | None
    arm: str | None
    category: Category
    claim: Literal["confirmatory", "exploratory", "none"]
    confirmatory: bool
    descriptive: bool
    at_floor: bool = False
    gain: Gain
    seeds: list[int]
    examples: int
    clusters: int
    scores: dict[str, ArmScore]
    transfer: Estimate | None = None
    exposure: Estimate | None = None
    total: Estimate | None = None
    controls: list[ControlResult] = []
    not_ruled_out: list[str] = []
    p_transfer: float | None = None
    p_negative: float | None = None
    p_adjusted: float | None = None
    p_exposure_adjusted: float | None = None
    equivalence: Equivalence | None = None
    permutation: Permutation | None = None
    over_seeds: SeedEffects | None = None
    detectable: float | None = None
    warnings: list[str] = []
    reasons: list[str] = []
    sentence: str = ""


class StudyVerdict(_Model):
    """The verdicts of a study and what they say together.

    `mean_transfer` and `mean_exposure` average the tasks' differences (all with a verdict and the same seeds; null
    otherwise). `at_least`: transfer on at least this many confirmatory tasks (partial conjunction). `normalised`: each
    arm's mean share of the way from the trivial predictor to 1 (null where a trivial value is unknown).
    """

    name: str
    settings: VerdictSettings
    category: Overall
    confirmatory: bool
    tasks: list[TaskVerdict]
    counts: dict[str, int]
    mean_transfer: Estimate | None
    mean_exposure: Estimate | None
    win_tie_loss: WinTieLoss
    at_least: int
    normalised: dict[str, float] | None
    warnings: list[str]
    sentence: str
