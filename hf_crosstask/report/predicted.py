"""Calibration and errors of every arm, from the predictions that the runs stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import TypeVar

from hf_crosstask.evaluation.analysis import Analysis, Cell, FigureData, Matrix, Series, Table
from hf_crosstask.evaluation.calibration import Calibration, calibration, decisions, reliability
from hf_crosstask.evaluation.errors import (
    ENTITY_ERRORS,
    confusions,
    entity_errors,
    label_set_errors,
    wrong_examples,
    wrong_in_all,
)
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, NUMBER_TYPES, SET_TYPES, Predictions
from hf_crosstask.evaluation.result import read_result

_Key = TypeVar("_Key")
#: (arm, task) to the predictions of each seed.
Stored = Mapping[tuple[str, str], Mapping[int, Predictions]]


def stored_predictions(folders: Iterable[Path]) -> dict[tuple[str, str], dict[int, Predictions]]:
    """Predictions of finished runs, by strategy and task, and each by seed.

    Raises:
        InputError: a folder holds no finished run.
    """
    stored: dict[tuple[str, str], dict[int, Predictions]] = {}
    for folder in folders:
        result = read_result(folder)
        for task in result.tasks:
            path = folder / "predictions" / f"{task}.parquet"
            stored.setdefault((result.strategy, task), {})[result.seed] = Predictions.from_parquet(path)
    return stored


def calibration_analysis(stored: Stored, *, replicates: int = 200) -> Analysis | None:
    """Calibration of every arm and task; None where no task has confidences."""
    rows: list[list[Cell]] = []
    curves: dict[str, list[Series]] = {}
    for (arm, task), seeds in stored.items():
        found = {seed: made for seed, each in seeds.items() if (made := decisions(each)) is not None}
        if not found:
            continue
        values = [calibration(made, replicates=replicates) for made in found.values()]
        rows.append([arm, task, len(values), *_means(values)])
        first = found[min(found)]
        points = reliability(first.confidence, first.right)
        curve = Series(name=arm, x=[x for x, _, _ in points], y=[y for _, y, _ in points])
        curves.setdefault(task, []).append(curve)
    if not rows:
        return None
    columns = ["arm", "task", "runs", "decisions", "accuracy", "confidence", "ECE", "95% interval", "debiased", "ACE"]
    return Analysis(
        kind="calibration",
        title="Calibration",
        summary=[
            "Means over seeds. Arms of different accuracy are not comparable by ECE alone: read it with the accuracy. "
            "For entities and label sets the decisions are the predicted ones; missed gold has no confidence."
        ],
        tables=[
            Table(
                name="calibration",
                caption="Calibration of every arm",
                columns=[*columns, "Brier", "NLL", "E-AURC", "missed gold"],
                rows=rows,
            )
        ],
        figures=[
            FigureData(
                name=f"reliability_{number}",
                caption=f"{task}: accuracy against confidence in ten bins, first seed. On the line: calibrated.",
                kind="lines",
                x_label="confidence",
                y_label="accuracy",
                series=series,
                reference="diagonal",
            )
            for number, (task, series) in enumerate(curves.items(), start=1)
        ],
    )


def _means(values: list[Calibration]) -> list[Cell]:
    lows = [value.ece_low for value in values if value.ece_low is not None]
    highs = [value.ece_high for value in values if value.ece_high is not None]
    interval = f"[{mean(lows):.4f}, {mean(highs):.4f}]" if lows else "–"
    return [
        round(mean(value.decisions for value in values)),
        mean(value.accuracy for value in values),
        mean(value.confidence for value in values),
        mean(value.ece for value in values),
        interval,
        mean(value.ece_debiased for value in values),
        mean(value.ace for value in values),
        mean(value.brier for value in values),
        mean(value.nll for value in values),
        mean(value.excess_aurc for value in values),
        round(mean(value.missed for value in values)),
    ]


def error_analysis(stored: Stored) -> Analysis | None:
    """What each arm gets wrong, and how hard examples are for all; None without predictions."""
    entities: list[list[Cell]] = []
    labels: list[list[Cell]] = []
    hard: list[list[Cell]] = []
    figures = []
    for (arm, task), seeds in stored.items():
        runs = [seeds[seed] for seed in sorted(seeds)]
        kind = runs[0].target.type
        if kind in ENTITY_TYPES:
            counts = _summed(entity_errors(run) for run in runs)
            entities.append([arm, task, *(f"{counts[name] / len(runs):,.1f}" for name in ("right", *ENTITY_ERRORS))])
        elif kind in SET_TYPES:
            for label, (right, spurious, missed) in label_set_errors(runs[0]).items():
                labels.append([arm, task, label, right, spurious, missed])
        elif kind not in NUMBER_TYPES and runs[0].choices is None and runs[0].answers is None:
            figures.append(_confusion(arm, task, _summed(confusions(run) for run in runs)))
        if kind not in NUMBER_TYPES:
            wrong = [wrong_examples(run) for run in runs]
            hard.append(
                [
                    arm,
                    task,
                    len(runs[0]),
                    f"{mean(map(len, wrong)):,.1f}",
                    len(wrong_in_all(wrong)),
                    len(set().union(*wrong)),
                ]
            )
    if not hard:
        return None
    tables = [
        Table(
            name="errors",
            caption="Entities: right, and wrong in each way (mean over seeds)",
            columns=["arm", "task", "right", *ENTITY_ERRORS],
            rows=entities,
        ),
        Table(
            name="label_errors",
            caption="Label sets, first seed: right, spurious and missed",
            columns=["arm", "task", "label", "right", "spurious", "missed"],
            rows=labels,
        ),
        Table(
            name="hard_examples",
            caption="Examples that are not right as a whole",
            columns=["arm", "task", "examples", "wrong (mean)", "wrong with every seed", "wrong with any seed"],
            rows=hard,
        ),
    ]
    return Analysis(
        kind="errors", title="Errors", summary=[], tables=[table for table in tables if table.rows], figures=figures
    )


def _summed(counters: Iterable[Counter[_Key]]) -> Counter[_Key]:
    total: Counter[_Key] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _confusion(arm: str, task: str, counts: Counter[tuple[str, str]]) -> FigureData:
    gold = sorted({pair[0] for pair in counts})
    predicted = sorted({label for pair in counts for label in pair})  # also what is never predicted
    totals = {label: sum(counts[label, other] for other in predicted) for label in gold}
    values: list[list[float | None]] = [[counts[g, p] / totals[g] for p in predicted] for g in gold]
    stem = "".join(letter if letter.isalnum() else "_" for letter in f"{arm}_{task}".lower())
    return FigureData(
        name=f"confusion_{stem}",
        caption=f"{arm}, {task}: share of each gold label (rows) predicted as each label (columns), all seeds together.",
        kind="heatmap",
        matrix=Matrix(rows=gold, columns=predicted, values=values, diverging=False),
    )
