"""Scoring a plain model on the split that its run reported, and generating answers with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.encoding.encode import EncodedTask
from hf_crosstask.encoding.prompts import answer_room
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.release.finished import FinishedRun
from hf_crosstask.run.generating import answer_batches, greedy_answers
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.training.evaluation_batches import EvalBatches, assemble
from hf_crosstask.training.rows import token_lengths

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ENCODED = {
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "labels",
    "entity_positions",
    "word_positions",
    "completion_mask",
}


def predict(run: FinishedRun, data: TaskData, encoded: EncodedTask, model: MultiTaskModel) -> Predictions:
    """The model's predictions on an encoded split, as the run makes them."""
    logits = outputs(encoded, model, run.tokenizer, limit=run.batch_tokens)
    scorer = run.scorer(data, encoded)
    if data.card.formulation != "generative":
        return scorer.decode(logits)
    answers = generate(
        model.language_model,
        run.tokenizer,
        encoded.dataset.with_format(None)["prompt_ids"][:],
        max_new_tokens=answer_room(data.card, run.tokenizer, run.recipe.model.max_length),
        limit=run.batch_tokens,
    )
    return scorer.read(answers, logits)


def evaluate(
    run: FinishedRun, data: TaskData, encoded: EncodedTask, model: MultiTaskModel
) -> tuple[Predictions, dict[str, MetricValue]]:
    """Predictions, and every metric with its bootstrap interval, on the split and by the settings of the run."""
    predictions, settings = predict(run, data, encoded, model), run.recipe.evaluation
    values = run.scorer(data, encoded).evaluate(
        predictions,
        replicates=settings.bootstrap_replicates,
        seed=run.recipe.training.seed,
        level=settings.confidence,
    )
    return predictions, values


def keep_inputs(encoded: EncodedTask) -> Any:
    """The encoded rows with nothing but what a model takes."""
    dataset = encoded.dataset
    return dataset.select_columns([name for name in dataset.column_names if name in _ENCODED])


@torch.no_grad()
def outputs(
    encoded: EncodedTask, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, *, limit: int
) -> Sequence[np.ndarray]:
    """One array of logits a row, in row order, padded to the longest.

    Args:
        limit: padded tokens of a batch.
    """
    device = next(model.parameters()).device
    task, rows = encoded.card.name, keep_inputs(encoded)
    lengths = token_lengths(rows, task)
    batches = EvalBatches(task, rows, lengths, MultiTaskCollator.for_tokenizer(tokenizer), limit=limit)
    parts = []
    for batch in batches:
        inputs = {name: value.to(device) for name, value in batch.inputs.items()}
        parts.append((batch.rows, model(task=task, **inputs).logits.float().cpu().numpy()))
    result = assemble(parts, lengths)
    assert result is not None
    return list(result)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    limit: int,
) -> list[str]:
    """Greedy answers to prompts, in length-sorted batches of `limit` padded tokens, padded on the left."""
    answers = [""] * len(prompts)
    for rows in answer_batches(prompts, max_new_tokens, limit):
        batch = [prompts[row] for row in rows]
        texts = greedy_answers(model, tokenizer, batch, max_new_tokens=max_new_tokens, device=model.device)
        for row, text in zip(rows, texts, strict=True):
            answers[row] = text
    return answers
