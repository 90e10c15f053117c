"""Drawing figure data, PNG and PDF.

Colours are those of Okabe and Ito 2008, told apart by every kind of colour vision, with markers, hatches and line styles
beside them for print in grey; heat maps print their values. Files hold no date: the same data gives the same file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_crosstask.atomic import write_file
from hf_crosstask.evaluation.analysis import FigureData, Matrix, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
_STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.6,
}
_WIDTH = 7.0


def write_figure(figure: FigureData, folder: Path) -> list[Path]:
    """Draw a figure as `<name>.png` and `<name>.pdf`, each written whole or not at all."""
    from matplotlib import rc_context

    files = []
    with rc_context(_STYLE):
        drawn = _draw(figure)
        for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            files.append(write_file(folder / f"{figure.name}.{kind}", _saver(drawn, kind, metadata)))
    return files


def _saver(figure: Figure, kind: str, metadata: dict[str, Any]) -> Callable[[Path], object]:
    return lambda path: figure.savefig(path, format=kind, metadata=metadata)


def _draw(data: FigureData) -> Figure:
    from matplotlib.figure import Figure

    draw = {"forest": _forest, "bars": _bars, "lines": _lines, "scatter": _scatter, "heatmap": _heatmap}[data.kind]
    figure = Figure(figsize=(_WIDTH, _height(data)), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, data)
    axes.set_xlabel(data.x_label)
    if data.kind != "forest":
        axes.set_ylabel(data.y_label)
    if len(data.series) > 1:
        figure.legend(loc="outside upper center", ncols=min(4, len(data.series)), frameon=False)
    return figure


def _height(data: FigureData) -> float:
    if data.kind == "forest":
        return 1.3 + 0.22 * len(_categories(data)) * max(1, len(data.series)) + 0.2 * len(_categories(data))
    if data.matrix is not None:
        return 1.2 + 0.4 * len(data.matrix.rows)
    return 3.6


def _categories(data: FigureData) -> list[str]:
    return list(dict.fromkeys(str(x) for series in data.series for x in series.x))


def _ends(series: Series) -> tuple[list[float], list[float]] | None:
    """How far each interval reaches below and above its point."""
    if series.low is None or series.high is None:
        return None
    below = [
        0.0 if y is None or low is None else max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)
    ]
    above = [
        0.0 if y is None or high is None else max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)
    ]
    return below, above


def _values(series: Series) -> list[float]:
    return [float("nan") if y is None else y for y in series.y]


def _forest(axes: Axes, data: FigureData) -> None:
    names, count = _categories(data), len(data.series)
    place = {name: position for position, name in enumerate(reversed(names))}
    for number, series in enumerate(data.series):
        shift = 0.0 if count == 1 else 0.3 - 0.6 * number / (count - 1)
        heights = [place[str(x)] + shift for x in series.x]
        axes.errorbar(
            _values(series),
            heights,
            xerr=_ends(series),
            fmt=_MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            capsize=2,
            label=series.name,
        )
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_ylim(-0.6, len(names) - 0.4)
    if data.reference == "zero":
        axes.axvline(0, color="0.4", linewidth=0.8)


def _bars(axes: Axes, data: FigureData) -> None:
    names, count = _categories(data), max(1, len(data.series))
    place = {name: position for position, name in enumerate(names)}
    width = 0.8 / count
    for number, series in enumerate(data.series):
        at = [place[str(x)] + (number - (count - 1) / 2) * width for x in series.x]
        axes.bar(
            at,
            _values(series),
            width,
            yerr=_ends(series),
            color=_COLOURS[number % len(_COLOURS)],
            hatch=_HATCHES[number % len(_HATCHES)],
            edgecolor="white",
            error_kw={"elinewidth": 0.8, "capsize": 1.5},
            label=series.name,
        )
    turned = sum(map(len, names)) > 70
    axes.set_xticks(range(len(names)), names, rotation=30 if turned else 0, ha="right" if turned else "center")
    if data.reference == "zero":
        axes.axhline(0, color="0.4", linewidth=0.8)


def _lines(axes: Axes, data: FigureData) -> None:
    for number, series in enumerate(data.series):
        colour, x = _COLOURS[number % len(_COLOURS)], list(series.x)
        axes.plot(
            x,
            _values(series),
            color=colour,
            linestyle=_LINES[number % len(_LINES)],
            marker=_MARKERS[number % len(_MARKERS)] if len(x) < 30 else None,
            markersize=4,
            label=series.name,
        )
        if series.low is not None and series.high is not None:
            low = [float("nan") if value is None else value for value in series.low]
            high = [float("nan") if value is None else value for value in series.high]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if data.reference == "diagonal":
        axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
    elif data.reference == "zero":
        axes.axhline(0, color="0.4", linewidth=0.8)


def _scatter(axes: Axes, data: FigureData) -> None:
    for number, series in enumerate(data.series):
        axes.errorbar(
            list(series.x),
            _values(series),
            yerr=_ends(series),
            fmt=_MARKERS[number % len(_MARKERS)],
            color=_COLOURS[number % len(_COLOURS)],
            label=series.name,
        )


def _heatmap(axes: Axes, data: FigureData) -> None:
    matrix = data.matrix
    assert matrix is not None
    values = _array(matrix)
    known = values[~np.isnan(values)]
    if matrix.diverging:
        reach = float(np.abs(known).max()) if known.size else 1.0
        limits, colours = (-(reach or 1.0), reach or 1.0), "PuOr"
    else:
        shares = not known.size or (known.min() >= 0 and known.max() <= 1)
        limits, colours = (0.0, 1.0) if shares else (float(known.min()), float(known.max())), "cividis"
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        if np.isnan(value):
            axes.text(column, row, "–", ha="center", va="center", color="0.4")
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = f"{value:+.3f}" if matrix.diverging else f"{value:.3f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    turned = sum(map(len, matrix.columns)) > 60
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=30 if turned else 0)
    axes.set_yticks(range(len(matrix.rows)), matrix.rows)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.figure.colorbar(image, ax=axes, shrink=0.9)


def _array(matrix: Matrix) -> Any:
    return np.array([[np.nan if value is None else value for value in row] for row in matrix.values], float)
