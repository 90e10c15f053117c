"""A report as figures, PNG and PDF: token lengths, label balance, vocabulary overlap.

Colours are those of Okabe and Ito 2008 ("Color universal design"), told apart by every kind of colour vision, with line
styles or hatches beside them for print in grey; the heat maps are in cividis (Nuñez et al. 2018), whose lightness rises
evenly. PDFs embed their fonts and hold no date: the same report gives the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_crosstask.atomic import write_file
from hf_crosstask.data_report.lengths import COVERED
from hf_crosstask.data_report.report import Balance, DataReport, Lengths
from hf_crosstask.tasks.schema import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # its yellow is lost on paper
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_HATCHES = ("", "///", "...")
_STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is one
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.6,
}
_WIDTH, _PAGE = 7.0, 9.0  # inches: the text of a page
_LONGEST_NAME = 36


def write_figures(report: DataReport, folder: Path) -> list[Path]:
    """Draw what the report has: `token_lengths` (in words where there are no tokens), `label_balance` (with `_2`, …
    where the labels fill several pages), and of several tasks `vocabulary_overlap`.

    Returns:
        the files, each written whole or not at all.
    """
    from matplotlib import rc_context

    files = []
    with rc_context(_STYLE):
        figures = {"token_lengths": _lengths(report)}
        for number, page in enumerate(_balance_pages(report), start=1):
            figures["label_balance" if number == 1 else f"label_balance_{number}"] = _balance(page)
        if len(report.tasks) > 1:
            figures["vocabulary_overlap"] = _overlap(report)
        for name, figure in figures.items():
            for kind, metadata in (("png", {}), ("pdf", {"CreationDate": None})):
                files.append(write_file(folder / f"{name}.{kind}", _saver(figure, kind, metadata)))
    return files


def _saver(figure: Figure, kind: str, metadata: dict[str, Any]) -> Callable[[Path], object]:
    return lambda path: figure.savefig(path, format=kind, metadata=metadata)


def _figure(height: float) -> Figure:
    """A figure that belongs to no window: drawn by Agg, or as PDF, whatever the machine."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _lengths(report: DataReport) -> Figure:
    """Share of each task's examples that are no longer than so many tokens."""
    figure = _figure(4.2)
    axes = figure.add_subplot()
    curves: dict[str, list[Lengths]] = {
        task: [found.tokens] if found.tokens else [split.words for split in found.splits.values()]
        for task, found in report.tasks.items()
    }
    for number, (task, lengths) in enumerate(curves.items()):
        for each in lengths:
            axes.plot(
                [max(length, 1) for length in each.quantiles],
                range(101),
                color=_COLOURS[number % len(_COLOURS)],
                linestyle=_LINES[number % len(_LINES)],  # five styles and seven colours: 35 pairs before one repeats
                linewidth=1.8,
                label=_short(task) if each is lengths[0] else None,
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, 103)
    axes.set_ylabel("examples no longer than this (%)")
    axes.set_title("Length of examples, all splits", loc="left")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axhline(COVERED, color="0.5", linewidth=0.8, label=f"{COVERED} % of the examples")
    if report.tokenizer:
        axes.set_xlabel(f"tokens of {_short(report.tokenizer.name, tail=True)} (logarithmic)")
        recipe, suggested = report.tokenizer.max_length, report.suggested_max_length
        axes.axvline(recipe, color="0.2", linewidth=1.2, linestyle=(0, (1, 1)), label=f"recipe's max_length {recipe}")
        if suggested is not None and suggested != recipe:
            style = (0, (4, 2))
            axes.axvline(suggested, color="0.5", linewidth=1.2, linestyle=style, label=f"suggested {suggested}")
    else:
        axes.set_xlabel("words (logarithmic; one line for each split)")
    figure.legend(loc="outside lower left", ncols=3, frameon=False)
    return figure


def _balance(tasks: Mapping[str, Mapping[str, Balance]]) -> Figure:
    """The share of every label in each split, one panel a task."""
    heights = [_panel_height(balances) for balances in tasks.values()]
    figure = _figure(sum(heights) + 0.4)
    panels = figure.subplots(len(tasks), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    width = 0.8 / len(SPLITS)
    for axes, (task, balances) in zip(panels, tasks.items(), strict=True):
        first = next(iter(balances.values()))
        names = _label_names(balances)
        for number, split in enumerate(SPLITS):
            if split not in balances:
                continue
            places = np.arange(len(names)) + (number - 1) * width
            labels = balances[split].labels
            shares = [100 * labels[name].share if name in labels else 0.0 for name in names]
            axes.barh(
                places,
                shares,
                height=width,
                color=_COLOURS[number],
                hatch=_HATCHES[number],
                edgecolor="white",
                linewidth=0.4,
                label=split,
            )
            for place, share in zip(places, shares, strict=True):
                axes.text(share + 0.8, place, f"{share:.1f}", va="center", size=6.5, color="0.25")
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{task}: % of {first.unit}", loc="left")
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[-1].set_xlim(0, 108)
    panels[-1].set_xticks(range(0, 101, 20))
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=len(handles), frameon=False)
    return figure


def _balance_pages(report: DataReport) -> list[dict[str, dict[str, Balance]]]:
    """The tasks that have labels, split to balance, as many to a page as it has room for."""
    pages: list[dict[str, dict[str, Balance]]] = []
    room = 0.0
    for task, found in report.tasks.items():
        balances = {split: each.balance for split, each in found.splits.items() if each.balance}
        if not balances:
            continue
        height = _panel_height(balances)
        if not pages or height > room:
            pages.append({})
            room = _PAGE
        pages[-1][task] = balances
        room -= height
    return pages


def _panel_height(balances: Mapping[str, Balance]) -> float:
    """Inches of one task's panel."""
    return 0.55 + 0.36 * len(_label_names(balances))


def _label_names(balances: Mapping[str, Balance]) -> list[str]:
    """The labels of any split (one may have questions with more choices than another)."""
    return list(dict.fromkeys(name for each in balances.values() for name in each.labels))


def _overlap(report: DataReport) -> Figure:
    """Vocabulary of the training splits, two by two, and of each evaluation split in each training split."""
    tasks = list(report.tasks)
    figure = _figure(max(3.4, 1.6 + 0.3 * len(tasks)))
    left, right = figure.subplots(1, 2, sharey=True)
    words = report.vocabulary
    _heat_map(left, words.jaccard, tasks, "Training vocabularies:\n% of their union in common")
    _heat_map(right, words.coverage, tasks, "Words of evaluated split (row) in\ntraining split (column), %")
    return figure


def _heat_map(axes: Axes, values: Mapping[str, Mapping[str, float | None]], tasks: Sequence[str], title: str) -> None:
    shares = np.array([[values[row][column] for column in tasks] for row in tasks], dtype=float) * 100
    axes.imshow(np.ma.masked_invalid(shares), cmap="cividis", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            "-" if np.isnan(share) else f"{share:.0f}",
            ha="center",
            va="center",
            size=9 if len(tasks) <= 8 else 7,
            color="black" if np.isnan(share) or share > 48 else "white",
        )
    names = [_short(task) for task in tasks]
    axes.set_xticks(range(len(tasks)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(tasks)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", size=9)


def _short(name: str, *, tail: bool = False) -> str:
    """A name that leaves room for the rest: its beginning, or (of a path) its end."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"…{name[1 - _LONGEST_NAME :]}" if tail else f"{name[: _LONGEST_NAME - 1]}…"
