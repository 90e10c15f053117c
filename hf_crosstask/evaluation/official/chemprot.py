"""BioCreative VI ChemProt: micro-averaged precision, recall and F1 of chemical-protein relations.

Semantics of the official evaluation kit (`bc6chemprot_eval.jar`) as its readme shows them: a relation is the abstract,
the group (CPR:n) and both arguments; predictions and gold are compared as sets (repeated lines count once, as the gold
file was made). Predicted relations of groups that are not evaluated are false positives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.evaluation.official.base import (
    UnitCounts,
    Values,
    data_lines,
    group_by,
    precision_recall_f1,
    scalars,
    unit_counts,
)

#: The evaluated groups.
GROUPS = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9")
#: The row of groups that are not evaluated: only a submission can have them, and they are wrong.
_OTHER = "other"
_ROWS = (*GROUPS, _OTHER)


@dataclass(frozen=True)
class Relation:
    """A relation of an abstract: its group, the chemical's and the gene's ids (`T1`, …)."""

    abstract: str
    group: str
    chemical: str
    gene: str


def parse(text: str, source: str = "predictions") -> list[Relation]:
    """The lines `PMID<TAB>CPR:n<TAB>Arg1:Ti<TAB>Arg2:Tj` of a gold standard or submission.

    Raises:
        DataFormatError: a line of another form.
    """
    relations = []
    for number, line in data_lines(text):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 4 or not (
            cells[1].startswith("CPR:") and cells[2].startswith("Arg1:") and cells[3].startswith("Arg2:")
        ):
            raise DataFormatError(
                source, f"expected PMID, CPR:n, Arg1:Ti, Arg2:Tj by tabs; found {line!r}", line=number
            )
        chemical, gene = cells[2].removeprefix("Arg1:"), cells[3].removeprefix("Arg2:")
        relations.append(Relation(cells[0], cells[1], chemical, gene))
    return relations


def format_lines(relations: Iterable[Relation]) -> str:
    """The file `parse` reads."""
    return "".join(f"{r.abstract}\t{r.group}\tArg1:{r.chemical}\tArg2:{r.gene}\n" for r in relations)


def document_counts(gold: Iterable[Relation], predicted: Iterable[Relation]) -> UnitCounts:
    """Statistics `[abstracts, 18]`: TP, FP, FN of each group and of all others.

    Abstracts are those with a gold relation, then those with predictions only.
    """
    sides = [group_by(relations, lambda relation: relation.abstract) for relations in (gold, predicted)]
    rows = {}
    for name in sides[0] | sides[1]:
        right, guess = (set(side.get(name, ())) for side in sides)
        row = []
        for group in _ROWS:
            a, b = (
                {relation for relation in side if (relation.group if relation.group in GROUPS else _OTHER) == group}
                for side in (right, guess)
            )
            row += [len(a & b), len(b - a), len(a - b)]
        rows[name] = row
    return unit_counts(rows, 3 * len(_ROWS))


def from_counts(sums: FloatArray) -> Values:
    """`precision`, `recall`, `f1` (micro) and `f1_<group>` of each group, of summed `[..., 18]` statistics."""
    counts = sums.reshape(*sums.shape[:-1], len(_ROWS), 3)
    micro = precision_recall_f1(counts.sum(axis=-2), "micro")
    each = precision_recall_f1(counts, "group")["group_f1"]
    return {
        **{name.removeprefix("micro_"): value for name, value in micro.items()},
        **{f"f1_{group}": each[..., row] for row, group in enumerate(GROUPS)},
    }


def score(gold: Iterable[Relation], predicted: Iterable[Relation]) -> dict[str, float]:
    """The metrics of a submission; both sides hold the relations of all abstracts."""
    return scalars(from_counts(document_counts(gold, predicted).total()))
