"""What happens to leaks: an error (the default), dropping the training examples, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hf_crosstask.errors import InputError
from hf_crosstask.tasks.audit.corpus import TRAIN, Splits
from hf_crosstask.tasks.audit.report import LEAK_KINDS, AuditReport, Kind, SplitPair
from hf_crosstask.tasks.audit.splits import audit_splits
from hf_crosstask.tasks.audit.table import plain_table
from hf_crosstask.tasks.card import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

Policy = Literal["error", "purge", "allow"]
TaskSplits = dict[str, dict[str, "Dataset"]]


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class AuditSpec(BaseModel):
    """The recipe's `audit`.

    An evaluation example that is in *any* training split is an error by default, that of its own task included: some
    published splits leak (418 PubMed abstracts have sentences in both parts of BC2GM), and a score on them must be
    reported with that said. `within_task: "allow"` says it: all arms of a study train on the same leak, and scores
    stay comparable with published ones, while overlaps between tasks, which only the multi-task arm can profit from,
    stay forbidden.

    `against` names tasks that the run does not train: their splits are audited with its own, so that every arm of a
    study trains a task on the same examples, and (with a tiny model) uses the same tokenizer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Policy = Field(default="error", description="error, purge (drop the training examples that leak) or allow")
    within_task: Policy | None = Field(
        default=None, description="the same for a task's own training split; null: as `policy`"
    )
    kinds: tuple[Kind, ...] = Field(
        default=LEAK_KINDS, min_length=1, description="the kinds of overlap that count as a leak"
    )
    examples: int = Field(default=5, ge=0, description="how many examples the report names for each overlap")
    against: tuple[Annotated[TaskSpec, BeforeValidator(_named, json_schema_input_type=str | TaskSpec)], ...] = Field(
        default=(),
        description="tasks that this run does not train, but whose splits are audited with its own: all arms of a study "
        "then train on the same examples",
    )

    def for_pair(self, pair: SplitPair) -> Policy:
        """What happens to a leak between these splits."""
        return self.within_task if pair.within_task and self.within_task else self.policy


class PurgedPair(BaseModel):
    """Training examples of one task that were dropped because of one evaluation split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_task: str
    evaluation_task: str
    evaluation_split: str
    examples: int
    documents: int


class PurgeCounts(BaseModel):
    """What a purge dropped, for the result.

    `before` and `dropped` are training examples by task; `pairs` tells on whose account, where an example that leaks
    into several evaluation splits counts for each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: dict[str, int]
    dropped: dict[str, int]
    pairs: tuple[PurgedPair, ...]


@dataclass(frozen=True)
class Audited:
    """The outcome of a policy: the report on the data as they came, the splits to use, and what was dropped."""

    report: AuditReport
    splits: TaskSplits
    purged: PurgeCounts | None


class LeakageError(InputError):
    """Evaluation examples are in training data, and the recipe's policy forbids it; `report` has all of it."""

    def __init__(self, report: AuditReport, pairs: Iterable[SplitPair]):
        self.report, self.pairs = report, tuple(pairs)
        super().__init__(_message(report, self.pairs))


def apply_policy(tasks: Mapping[str, Splits], spec: AuditSpec | None = None) -> Audited:
    """Audit the tasks and do what the policy says.

    Raises:
        LeakageError: a pair of splits leaks whose policy is `error`. All of them are in the message.
        InputError: purging would leave a task without training examples.
    """
    spec = spec or AuditSpec()
    report = audit_splits(tasks, leak_kinds=spec.kinds, examples=spec.examples)
    forbidden = [pair for pair in report.leaks() if spec.for_pair(pair) == "error"]
    if forbidden:
        raise LeakageError(report, forbidden)
    if all(spec.for_pair(pair) == "allow" for pair in report.pairs):
        return Audited(report, {name: dict(task.splits) for name, task in tasks.items()}, None)
    splits, purged = purge(tasks, report, [pair for pair in report.leaks() if spec.for_pair(pair) == "purge"])
    return Audited(report, splits, purged)


def purge(
    tasks: Mapping[str, Splits], report: AuditReport, pairs: Iterable[SplitPair] | None = None
) -> tuple[TaskSplits, PurgeCounts]:
    """Drop the training examples that leak; evaluation splits stay as they are.

    Args:
        tasks: the tasks that were audited.
        report: their audit, of this process (a report read back from JSON does not know the rows).
        pairs: the pairs of splits to purge; all that leak by default.

    Returns:
        The splits of every task, and the counts.

    Raises:
        InputError: the report is not of these tasks, or a task would be left without training examples.
    """
    chosen = tuple(report.leaks() if pairs is None else pairs)
    rows: dict[str, set[int]] = {name: set() for name, task in tasks.items() if TRAIN in task.splits}
    counts = []
    for pair in chosen:
        leak = pair.leak
        if leak is None:
            continue
        if len(leak.train_rows) != leak.train_examples:
            raise InputError("this audit report was read from a file and names no rows; audit the tasks again")
        rows[pair.train_task].update(leak.train_rows)
        counts.append(
            PurgedPair(
                train_task=pair.train_task,
                evaluation_task=pair.evaluation_task,
                evaluation_split=pair.evaluation_split,
                examples=leak.train_examples,
                documents=leak.train_documents,
            )
        )
    splits = {name: dict(task.splits) for name, task in tasks.items()}
    for name, dropped in rows.items():
        train = splits[name][TRAIN]
        if len(train) != report.examples(name, TRAIN):
            raise InputError(f"the audit report is not of these tasks: {name} has {len(train)} training examples now")
        if len(dropped) == len(train):
            raise InputError(
                f"task {name!r}: all {len(train)} training examples leak into evaluation splits; purging would leave "
                f"none. Are its splits, or two tasks of the recipe, copies of each other?"
            )
        if dropped:
            splits[name][TRAIN] = train.select([row for row in range(len(train)) if row not in dropped])
    return splits, PurgeCounts(
        before={name: report.examples(name, TRAIN) for name in rows},
        dropped={name: len(dropped) for name, dropped in rows.items()},
        pairs=tuple(counts),
    )


def _message(report: AuditReport, pairs: tuple[SplitPair, ...]) -> str:
    within = [pair for pair in pairs if pair.within_task]
    rows: dict[str, set[int]] = {}
    for pair in pairs:
        if pair.leak:
            rows.setdefault(pair.train_task, set()).update(pair.leak.train_rows)
    drops = ", ".join(f"{name} {len(found):,} of {report.examples(name, TRAIN):,}" for name, found in rows.items())
    remedies = [("audit.policy=purge", f"drop the training examples that leak ({drops})")]
    if within:
        names = ", ".join(dict.fromkeys(pair.train_task for pair in within))
        remedies.append(
            ("audit.within_task=allow", f"keep the published splits of {names}; between tasks stays an error")
        )
        remedies.append(("audit.policy=purge audit.within_task=allow", "keep published splits, purge between tasks"))
    remedies.append(("audit.policy=allow", "train on them all the same; the result says so"))
    lines = [
        "evaluation examples are in training data, so scores on them do not measure what they should:",
        "",
        plain_table(report, pairs),
        "",
        "Remedy, one of:",
        *(f"  {option}: {meaning}" for option, meaning in remedies),
    ]
    return "\n".join(lines)
