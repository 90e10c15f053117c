"""Every official scorer as an `evaluate.Metric`, without network: `OfficialScorer(config_name="cqa")`.

Predictions and references are documents in the scorer's submission format (the text of a `.ann`, `.pipe`, XML or TSV
file), or plain values where there is no such format; `CONFIGS` says which. `evaluate` wants as many predictions as
references, in the same order: a document without a prediction is an empty text. Importing `evaluate` takes seconds, so
nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation.official import (
    ade2018,
    anafora,
    bleu,
    brat,
    chemprot,
    cmed2022,
    cqa,
    ddi,
    hoc,
    multiple_choice,
    rouge,
    share2014,
    share2015,
    similarity,
)

Score = Callable[[Any, Any], dict[str, float]]


@dataclass(frozen=True)
class Config:
    """One scorer: what an item of predictions and references is, and its function of (references, predictions)."""

    item: str
    score: Score
    prediction: str = "string"
    reference: str = "string"


def _joined(parse: Callable[[str, str], Any], score: Score) -> Score:
    """For formats whose lines name their document: all items are parsed as one file."""
    return lambda gold, predicted: score(
        parse("\n".join(gold), "references"), parse("\n".join(predicted), "predictions")
    )


def _numbered(items: Sequence[Any]) -> dict[str, Any]:
    return {str(index): item for index, item in enumerate(items)}


def _documents(parse: Callable[[str, str], Any], score: Score) -> Score:
    """For formats with one file a document: items are documents, paired by position."""

    def parsed(items: Sequence[str], side: str) -> dict[str, Any]:
        return _numbered([parse(item, f"{side}[{index}]") for index, item in enumerate(items)])

    return lambda gold, predicted: score(parsed(gold, "references"), parsed(predicted, "predictions"))


def _xml(text: str, source: str) -> anafora.Document:
    return anafora.parse(text, source) if text.strip() else anafora.Document()


def _thyme(gold: Mapping[str, anafora.Document], predicted: Mapping[str, anafora.Document]) -> dict[str, float]:
    # Documents have no file names here, so relations count in all of them.
    return anafora.score(gold, predicted, scores_relations=lambda document: True)


def _hoc(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    return hoc.score(_numbered(gold), _numbered(predicted))


CONFIGS: dict[str, Config] = {
    "cqa": Config("a line (or several) of a .relevancy/.pred file", _joined(cqa.parse, cqa.score)),
    "share2014": Config("a .pipe file (double pipes)", _joined(share2014.parse, share2014.score)),
    "share2015_task1": Config("a .pipe file (single pipes)", _joined(share2015.parse, share2015.score_task1)),
    "share2015_task2": Config("a .pipe file (single pipes)", _joined(share2015.parse, share2015.score_task2)),
    "thyme": Config("an Anafora XML file", _documents(_xml, _thyme)),
    "ade2018": Config("a brat .ann file", _documents(brat.parse, ade2018.score)),
    "cmed2022": Config("a brat .ann file", _documents(brat.parse, cmed2022.score)),
    "ddi": Config("a document's lines sentence|drug|drug|0 or 1|type", _joined(ddi.parse, ddi.score)),
    "chemprot": Config("an abstract's lines PMID, CPR:n, Arg1:Ti, Arg2:Tj", _joined(chemprot.parse, chemprot.score)),
    "hoc": Config("the list of a document's hallmarks", _hoc, "strings", "strings"),
    "similarity": Config("a score", similarity.score, "float64", "float64"),
    "multiple_choice": Config("an answer, None where none could be parsed", multiple_choice.score),
    "rouge": Config("a text", rouge.score),
    "bleu": Config("a text; references: the list of its references", bleu.score, reference="strings"),
}


def _feature(name: str) -> Any:
    return datasets.List(datasets.Value("string")) if name == "strings" else datasets.Value(name)


class OfficialScorer(evaluate.Metric):
    """The metric `config_name`, a key of `CONFIGS`; every other argument is `evaluate.Metric`'s.

    Raises:
        InputError: an unknown `config_name`.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in CONFIGS:
            raise InputError(unknown_name("official scorer", self.config_name, CONFIGS))
        config = CONFIGS[self.config_name]
        return evaluate.MetricInfo(
            description=f"Official scorer {self.config_name}: see hf_crosstask.evaluation.official.",
            citation="",
            inputs_description=f"predictions and references: {config.item}, one per item, in the same order",
            features=datasets.Features(
                {"predictions": _feature(config.prediction), "references": _feature(config.reference)}
            ),
        )

    def _compute(self, *, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return CONFIGS[self.config_name].score(references, predictions)
