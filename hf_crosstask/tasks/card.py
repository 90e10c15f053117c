"""Task cards: what the registry knows of a task, and what a recipe may say of one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hf_crosstask.tasks.schema import TaskType

Access = Literal["public", "credentialed"]
Official = Literal["share2014", "share2015", "thyme2016", "ade2018", "cmed2022"]
#: How a task is posed: to a head of its own, or to a language model, which generates the answer or weighs the choices.
Formulation = Literal["head", "generative", "likelihood"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Published(_Model):
    """A number someone published: the best known score, and where it stands."""

    metric: str
    value: float
    system: str
    source: str


class TaskCard(_Model):
    """Everything the library needs to know of a task besides its files.

    `labels` are entity types for `ner`/`span_ner`, relation types (negative class included) for `relation`, class
    names for `classification`/`multilabel`/`ranking`. `positive_label` is the class whose F1 the metric `positive_f1`
    is, `score_range` the lowest and the highest `score` there can be (similarity, relevance). `reach` is how many
    words a `span_ner` entity may reach over, from its first to its last; `official` the official scorer whose metrics
    join those of the type. `formulation` says how the task is posed (`generation` tasks are always generative),
    `max_new_tokens` how long a generated answer gets (null: by type, see `encoding.prompts`). `published_counts` maps
    split to counts by name (`examples`, `entities`, …) as the corpus paper states them.
    """

    name: str
    type: TaskType
    level: Literal[1, 2]
    description: str = ""
    labels: tuple[str, ...] = ()
    negative_label: str | None = None
    positive_label: str | None = None
    score_range: tuple[float, float] = (0.0, 1.0)
    reach: int = Field(default=32, ge=2)
    official: Official | None = None
    formulation: Formulation = "head"
    max_new_tokens: int | None = Field(default=None, ge=2)
    primary_metric: str
    secondary_metrics: tuple[str, ...] = ()
    segmentation: Literal["whitespace", "regex"] = "regex"
    reader: str
    path: str | dict[str, str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)
    published_counts: dict[str, dict[str, int]] = Field(default_factory=dict)
    best_published: Published | None = None
    licence: str = "unknown"
    access: Access = "public"
    provenance: str = "user"
    homepage: str = ""
    obtain: str = ""
    max_examples: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _generation_is_generative(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("type") == "generation":
            return {"formulation": "generative"} | fields
        return fields


class TaskSpec(_Model):
    """A task as a recipe names it: a registry name alone, or a name with fields to add or override.

    A name that is not in the registry defines a task of the user's own; then `type` and `reader` (and, for closed
    label sets, `labels`) are required.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$", description="unique in the recipe; names the head")
    type: TaskType | None = None
    reader: str | None = Field(None, description="the original format of the files")
    path: str | dict[str, str] | None = Field(
        None, description="a folder with the usual split names, or a map of split to file; relative to data_dir"
    )
    labels: tuple[str, ...] | None = None
    negative_label: str | None = None
    positive_label: str | None = Field(None, description="the class that the metric positive_f1 is about")
    score_range: tuple[float, float] | None = Field(
        None, description="lowest and highest score of a similarity or ranking task; [0, 1] by default"
    )
    reach: int | None = Field(
        None, ge=2, description="words that a span_ner entity may reach over, first to last; 32 by default"
    )
    official: Official | None = Field(None, description="official scorer whose metrics join those of the type")
    formulation: Formulation | None = Field(
        None,
        description="how the task is posed: to a head of its own (the default), as instruction and generated answer "
        "(generative; always for generation tasks), or by the likelihood of each choice (multiple_choice only); the "
        "last two need a decoder",
    )
    max_new_tokens: int | None = Field(
        None,
        ge=2,
        description="most tokens of a generated answer; by default what the labels need, 256 for open answers",
    )
    level: Literal[1, 2] | None = None
    columns: dict[str, str] | None = Field(None, description="schema field to column of the source")
    options: dict[str, Any] | None = Field(None, description="options of the reader")
    primary_metric: str | None = None
    segmentation: Literal["whitespace", "regex"] | None = None
    provenance: str | None = None
    licence: str | None = None
    access: Access | None = None
    max_examples: dict[str, int] | None = Field(
        None, description="keep this many examples of a split, a seeded sample (never the first rows)"
    )
