"""What was found, as JSON-able models. Shares are in [0, 1]; lengths are of whole examples."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hf_crosstask.tasks.schema import TaskType

BalanceUnit = Literal["entities", "relations", "examples"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Lengths(_Model):
    """Lengths of a set of examples.

    Percentiles are by nearest rank: at least that share of the examples is no longer. `quantiles` are those of
    0, 1, … 100 %.
    """

    total: int
    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    max: int
    quantiles: tuple[int, ...] = Field(min_length=101, max_length=101)


class TokenLengths(Lengths):
    """Forward tokens of whole examples, before anything is cut (of a question with choices: of the longest pair).

    Attributes:
        suggested_max_length: the smallest multiple of 32 that 99 % of the examples fit into, at most the model's.
        covered: the share that fits into it; below 0.99 only where the model takes no more.
        longer_than_recipe: examples that do not fit the recipe's `model.max_length`.
    """

    suggested_max_length: int
    covered: float
    longer_than_recipe: int


class LabelCount(_Model):
    """How often a label occurs, and its share of the balance's unit."""

    count: int
    share: float


class Balance(_Model):
    """The labels of a split, in the card's order.

    Attributes:
        unit: what shares are of: entities by type, relations (candidate pairs) by type, or examples. Labels of a
            multi-label task overlap, so that their shares do not add up to 1; `(none)` are the examples without any.
            Multiple choice counts the places of the right answer, similarity and its like five equal ranges of scores.
    """

    unit: BalanceUnit
    labels: dict[str, LabelCount]


class SplitStatistics(_Model):
    """One split.

    Attributes:
        documents: distinct `split_group`.
        entities: of entity tasks all mentions; else distinct ones (candidate pairs of a document share theirs).
        relations: those of a positive class.
        labels: labels given, all examples together.
        balance: None where the task type has no labels to balance.
        words: lengths in words of the task's segmentation, `text` and `text_pair` together.
        tokens: None where there is no tokenizer.
    """

    examples: int
    documents: int
    entities: int
    relations: int
    labels: int
    balance: Balance | None
    words: Lengths
    tokens: TokenLengths | None


class PublishedCount(_Model):
    """A published count against what was read.

    Attributes:
        split: a split, or several joined by `+`.
        name: what is counted: `examples`, `documents`, `entities`, `relations` or a label.
        read: None where nothing read can be compared with it.
        lost: gold annotations that no example can carry; they belong to the published number.
        difference: `read + lost - published`.
        note: why it may differ, or cannot be compared.
    """

    split: str
    name: str
    published: int
    read: int | None
    lost: int = 0
    difference: int | None
    note: str = ""


class TaskStatistics(_Model):
    """One task; `tokens` are those of all its splits together."""

    type: TaskType
    level: Literal[1, 2]
    fingerprint: str
    splits: dict[str, SplitStatistics]
    tokens: TokenLengths | None
    published: tuple[PublishedCount, ...]
    dropped: dict[str, dict[str, int]]
    lost_gold: dict[str, dict[str, int]]


class Tokenizer(_Model):
    """What tokens are counted with: the recipe's model, the longest input it takes, and `model.max_length`."""

    name: str
    longest: int
    max_length: int


class TaskVocabulary(_Model):
    """Word types of a task, and which of its evaluation split training texts have.

    A word type is a run of letters and digits, whatever its case. Shares are of the evaluation split's types.

    Attributes:
        train: types of the training split.
        evaluation_split: `test`, else `validation`, else None.
        own, others: found in the task's own training split; in that of any other task.
        either: found in any training split; what exceeds `own` only multi-task training sees.
    """

    train: int
    evaluation_split: str | None
    evaluation: int
    own: float | None
    others: float | None
    either: float | None


class VocabularyOverlap(_Model):
    """Vocabulary that tasks share; None where a task lacks the split.

    Attributes:
        jaccard: of the training vocabularies of two tasks.
        coverage: evaluated task to training task to the share of evaluation word types that the training split has.
    """

    tasks: dict[str, TaskVocabulary]
    jaccard: dict[str, dict[str, float | None]]
    coverage: dict[str, dict[str, float | None]]


class SharedNames(_Model):
    """Names of labels and entity types that two tasks have in common, negative classes left out.

    Attributes:
        tasks: the two.
        exact: spelled alike.
        normalised: (of the first, of the second) alike but for case, spaces and punctuation.
        jaccard: of the normalised names.
    """

    tasks: tuple[str, str]
    exact: tuple[str, ...]
    normalised: tuple[tuple[str, str], ...]
    jaccard: float


class DataReport(_Model):
    """The data of a recipe at a glance.

    Attributes:
        tokenizer: None where it cannot be loaded; `tokenizer_problem` says why.
        suggested_max_length: the longest of the tasks' suggestions: a recipe has one `model.max_length`.
        warnings: what should be looked at before training.
    """

    schema_version: Literal[1] = 1
    recipe: str
    tokenizer: Tokenizer | None
    tokenizer_problem: str | None
    suggested_max_length: int | None
    tasks: dict[str, TaskStatistics]
    vocabulary: VocabularyOverlap
    shared_names: tuple[SharedNames, ...]
    warnings: tuple[str, ...]
