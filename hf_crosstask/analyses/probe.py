"""What a run's hidden states encode: linear probes on every layer, of the backbone before and after training.

A probe is a regularised logistic regression on a mean-pooled state, with its control task beside (Hewitt and Liang 2019):
the same labels in random order. Selectivity is the difference; a probe that fits random labels as well has learned the
labels itself. States are frozen, splits are the task's own, and strengths are chosen by cross-validation on train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.analysis import Analysis, Cell, FigureData, Series, Table

Floats = NDArray[np.floating]
#: Task types with a label an example.
PROBED = ("classification", "relation", "ner")


def pooled_states(model, tokenizer, texts: Sequence[str], *, max_length: int, batch: int = 16) -> list[Floats]:  # type: ignore[no-untyped-def]
    """[n, hidden] mean state of each text at every layer, the embeddings first."""
    import torch

    layers: list[list[Floats]] = []
    model.eval()
    for start in range(0, len(texts), batch):
        inputs = tokenizer(
            list(texts[start : start + batch]),
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            states = model(**inputs.to(model.device), output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][..., None].float()
        pooled = [((state.float() * mask).sum(1) / mask.sum(1)).cpu().numpy() for state in states]
        layers.append(pooled)
    return [np.concatenate(parts) for parts in zip(*layers, strict=True)]


def probe(
    train: Floats, labels: Sequence[str], test: Floats, gold: Sequence[str], *, seed: int = 0
) -> tuple[float, float]:
    """Macro-F1 of a linear probe, and of its control on the training labels in random order."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for targets in (np.asarray(labels), np.random.default_rng(seed).permutation(np.asarray(labels))):
        classifier = LogisticRegressionCV(
            Cs=(0.01, 0.1, 1.0),
            cv=3,
            max_iter=500,
            scoring="balanced_accuracy",
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        )
        fitted = make_pipeline(StandardScaler(), classifier).fit(train, targets)
        found.append(float(f1_score(np.asarray(gold), fitted.predict(test), average="macro", zero_division=0)))
    return found[0], found[1]


def probe_labels(card_type: str, examples: Mapping[str, Sequence]) -> list[str]:
    """One label an example: its class, its relation, or whether it holds an entity.

    Raises:
        InputError: the task type has no such label.
    """
    if card_type == "classification":
        return [labels[0] for labels in examples["labels"]]
    if card_type == "relation":
        return [relations[0]["type"] for relations in examples["relations"]]
    if card_type == "ner":
        return ["entity" if entities else "none" for entities in examples["entities"]]
    raise InputError(f"there is no probe for task type {card_type}; there is one for {', '.join(PROBED)}")


def probe_run(run: Path, *, limit: int) -> Analysis:
    """Probe a run's backbone, as it came and as it was trained, on every task that has one label an example.

    Args:
        run: a finished run's folder.
        limit: at most so many training and so many test examples of each task.

    Raises:
        InputError: the folder holds no finished run, or none of its tasks can be probed.
    """
    from transformers import AutoModel

    from hf_crosstask.run.load import load_run
    from hf_crosstask.tasks.load import load_task

    loaded = load_run(run)
    recipe = loaded.recipe
    data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
    before = AutoModel.from_pretrained(loaded.result.model["loaded_from"], revision=recipe.model.revision)
    rows: list[list[Cell]] = []
    figures = []
    for spec in (each for each in recipe.tasks if each.name not in recipe.text_tasks):
        data = load_task(spec, data_dir=data_dir)
        if data.card.type not in PROBED or "test" not in data.splits:
            continue
        splits = {
            name: data.splits[name].select(range(min(limit, len(data.splits[name])))) for name in ("train", "test")
        }
        labels = {name: probe_labels(data.card.type, split[:]) for name, split in splits.items()}
        if (
            min(list(labels["train"]).count(label) for label in set(labels["train"])) < 3
            or len(set(labels["train"])) < 2
        ):
            continue
        series = []
        for name, model in (("as it came", before), ("as trained", _Active(loaded.model, spec.name))):
            states = {
                split: pooled_states(model, loaded.tokenizer, examples["text"][:], max_length=recipe.model.max_length)
                for split, examples in splits.items()
            }
            scores = [
                probe(train, labels["train"], test, labels["test"])
                for train, test in zip(states["train"], states["test"], strict=True)
            ]
            for layer, (score, control) in enumerate(scores):
                rows.append([spec.name, name, layer, score, control, score - control])
            series.append(
                Series(name=name, x=[float(layer) for layer in range(len(scores))], y=[score for score, _ in scores])
            )
        figures.append(
            FigureData(
                name=f"probe_{spec.name}".lower().replace("-", "_"),
                caption=f"{spec.name}: macro-F1 of a linear probe on each layer (0: embeddings).",
                kind="lines",
                x_label="layer",
                y_label="macro-F1",
                series=series,
            )
        )
    if not rows:
        raise InputError(f"{run}: none of its tasks has one label an example and a test split to probe")
    table = Table(
        name="probe",
        caption="Linear probes",
        columns=["task", "backbone", "layer", "macro-F1", "control", "selectivity"],
        rows=rows,
        note="Control: the same probe on training labels in random order.",
    )
    return Analysis(
        kind="probe",
        title="Probing",
        summary=[
            f"{run.name}: at most {limit} training and test examples a task; entity tasks: is there one in the text?"
        ],
        tables=[table],
        figures=figures,
    )


class _Active:
    """A multi-task model's backbone with one task's adapters on, called like a plain model."""

    def __init__(self, model, task: str):  # type: ignore[no-untyped-def]
        self._model, self._task = model, task
        self.device = next(model.parameters()).device

    def eval(self) -> None:
        self._model.eval()

    def __call__(self, **inputs):  # type: ignore[no-untyped-def]
        self._model.activate(self._task)
        return self._model.backbone(**inputs)
