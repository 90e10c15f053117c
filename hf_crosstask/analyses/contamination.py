"""`hf-crosstask contamination`: had the base model seen the test sets before any of our training?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_crosstask.analyses.membership import (
    SCORES,
    auroc,
    auroc_interval,
    blind_auroc,
    interpretable,
    membership_scores,
    ordering_test,
    token_scores,
)
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.analysis import Analysis, Cell, Table
from hf_crosstask.models.backbone import Source, is_causal, load_config, load_tokenizer
from hf_crosstask.recipe import Recipe


def read_texts(path: Path) -> list[str]:
    """Reference texts: JSON Lines with a `text` each, or plain lines.

    Raises:
        DataFormatError: a line is no such object, or holds no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from None
    texts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        text: object = line
        if path.suffix == ".jsonl":
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataFormatError(path, f"is not JSON: {error.msg}", line=number) from None
            text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise DataFormatError(path, 'expected an object with a non-empty "text"', line=number)
        texts.append(text)
    return texts


def contamination(
    recipe: Recipe, *, non_members: Sequence[str] | None, limit: int, permutations: int, base_models: Path
) -> Analysis:
    """Test the base model on each task's evaluation split.

    Args:
        recipe: its model (without any adapter) and tasks.
        non_members: texts that the model cannot have seen, of the same kind and length; None runs the ordering test
            alone.
        limit: at most so many texts of each split, the first ones.
        permutations: shuffled orders of the ordering test.
        base_models: where a tiny model is kept.

    Raises:
        InputError: the model is no decoder, or the data is wrong.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from hf_crosstask.run.prepare import prepare

    prepared = prepare(recipe, base_models=base_models)
    source: Source = prepared.source
    if not is_causal(load_config(source)):
        raise InputError(
            f"{recipe.model.name_or_path} is an encoder: membership scores need a model that predicts text left to right"
        )
    tokenizer = load_tokenizer(source)
    model = AutoModelForCausalLM.from_pretrained(source.name_or_path, revision=source.revision, dtype="auto")
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    length = recipe.model.max_length
    split = recipe.evaluation.split
    others = None
    if non_members is not None:
        others = _scores(token_scores(model, tokenizer, non_members, max_length=length), non_members)
    rows: list[list[Cell]] = []
    orders: list[list[Cell]] = []
    summary = [f"Base model {recipe.model.name_or_path}, {split} splits, at most {limit} texts each."]
    for task, data in prepared.scored.items():
        examples = data.splits[split].select(range(min(limit, len(data.splits[split]))))
        texts = examples["text"][:]
        test = ordering_test(model, tokenizer, texts, max_length=length, permutations=permutations)
        orders.append([task, len(texts), test.canonical, test.shuffled_mean, test.permutations, test.p])
        if others is None or non_members is None:
            continue
        scored = token_scores(model, tokenizer, texts, max_length=length)
        members = _scores(scored, texts)
        clusters = [
            group or id
            for group, id, score in zip(examples["split_group"][:], examples["id"][:], scored, strict=True)
            if score is not None
        ]
        blind = blind_auroc(texts, non_members)
        values = {name: auroc(members[name], others[name]) for name in SCORES}
        usable = interpretable(values, blind)
        if not usable:
            summary.append(f"{task}: uninterpretable. Words alone tell the sets apart (AUROC {blind:.3f}).")
        for name in SCORES:
            low, high = auroc_interval(members[name], others[name], clusters)
            interval = f"[{low:.3f}, {high:.3f}]"
            rows.append([task, name, values[name], interval, 2 * values[name] - 1, blind, usable])
    if others is None:
        summary.append("No reference texts were given (--non-members), so only the ordering test was run.")
    tables = [
        Table(
            name="ordering",
            caption="Does the model prefer the file's own order of examples?",
            columns=["task", "texts", "log-likelihood", "shuffled, mean", "permutations", "p"],
            rows=orders,
            note="A small p is evidence that the file itself was in the training data.",
        )
    ]
    if rows:
        columns = ["task", "score", "AUROC", "95% interval", "rank-biserial", "blind AUROC", "interpretable"]
        tables.insert(
            0, Table(name="membership", caption="Test texts against texts not seen", columns=columns, rows=rows)
        )
    return Analysis(kind="contamination", title="Contamination", summary=summary, tables=tables)


def _scores(found: Sequence, texts: Sequence[str]) -> dict[str, np.ndarray]:
    rows = [membership_scores(text, each) for text, each in zip(texts, found, strict=True) if each is not None]
    if not rows:
        raise InputError("no text is long enough to be scored")
    return {name: np.array([row[name] for row in rows]) for name in SCORES}
