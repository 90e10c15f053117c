"""Numbers as a reader wants them."""

from __future__ import annotations

from collections.abc import Sequence

from hf_crosstask.evaluation.analysis import Cell, Mark
from hf_crosstask.study.multibootstrap import Estimate

#: Stars of significance, as papers print them.
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def plain(cell: Cell) -> str:
    """A cell as text, without emphasis."""
    if cell is None:
        return "–"
    if isinstance(cell, Mark):
        return cell.text + cell.mark
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4f}" if isinstance(cell, float) else cell


def estimate(value: Estimate | None) -> str:
    """A difference with its interval."""
    if value is None:
        return "–"
    return f"{value.estimate:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def p_value(p: float | None) -> str:
    """A p-value; never 0."""
    if p is None:
        return "–"
    return "<.0001" if p < 0.0001 else f"{p:.4f}"


def stars(p: float | None) -> str:
    """Marks of significance: * below .05, ** below .01, *** below .001."""
    return next((mark for level, mark in STARS if p is not None and p < level), "")


def score(mean: float, sd: float | None) -> str:
    """A mean over seeds and its standard deviation."""
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def ranked(values: Sequence[float | None], texts: Sequence[str], marks: Sequence[str] | None = None) -> list[Cell]:
    """Cells of one row, the highest value marked best and the next one second. Equal values share their rank."""
    order = sorted({value for value in values if value is not None}, reverse=True)
    several = len(order) > 1
    cells: list[Cell] = []
    for position, (value, text) in enumerate(zip(values, texts, strict=True)):
        if value is None:
            cells.append(None)
            continue
        cells.append(
            Mark(
                text=text,
                best=several and value == order[0],
                second=len(order) > 2 and value == order[1],
                mark=marks[position] if marks else "",
            )
        )
    return cells
