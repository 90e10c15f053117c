"""Encoders as ONNX, through torch's own exporter, and scoring them with onnxruntime.

`optimum`'s ONNX exporter (optimum-onnx 0.1.0) needs transformers below 4.58 and cannot be installed beside
transformers 5, so the graph is written by `torch.onnx` (the extra `onnx`: onnx, onnxscript, onnxruntime).
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.models.backbone import is_causal
from hf_crosstask.models.lists import present_sequences, scores_by_row
from hf_crosstask.release.finished import FinishedRun
from hf_crosstask.release.measure import keep_inputs
from hf_crosstask.release.merge import kind_of
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.load import TaskData
from hf_crosstask.training.evaluation_batches import EvalBatches, assemble
from hf_crosstask.training.rows import token_lengths

FILE_NAME = "model.onnx"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require(card: TaskCard, config: PretrainedConfig) -> None:
    """Say what keeps a task from being exported to ONNX.

    Raises:
        InputError: a package is missing, the model is a decoder, or the task's head has no place in a plain model.
    """
    if is_causal(config):
        raise InputError(f"ONNX export is for encoders, and {config.model_type} is a decoder; use merged, gptq or awq")
    if kind_of(card, config)[0] == "body":
        raise InputError(f"a {card.type} task has a head of this library alone; ONNX export needs a plain model")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'ONNX export needs {", ".join(missing)}: pip install "hf_crosstask[onnx]"')


class _Logits(nn.Module):
    """A model of positional tensors and one output, as the exporter wants it."""

    def __init__(self, model: PreTrainedModel, names: tuple[str, ...]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


def input_names(config: PretrainedConfig) -> tuple[str, ...]:
    """What the graph takes."""
    return ("input_ids", "attention_mask", *(["token_type_ids"] if getattr(config, "type_vocab_size", 0) > 1 else []))


def write_onnx(model: PreTrainedModel, folder: Path) -> None:
    """Write `model.onnx` (int64 inputs [batch, length] to float32 `logits`) and `config.json`."""
    names = input_names(model.config)
    tensors = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own internals
        _write(_Logits(model.cpu().eval(), names), tensors, names, (batch, length), folder / FILE_NAME)
    model.config.save_pretrained(str(folder))


def _write(
    model: _Logits, tensors: tuple[Tensor, ...], names: tuple[str, ...], dimensions: tuple[Any, Any], file: Path
) -> None:
    torch.onnx.export(
        model,
        tensors,
        str(file),
        input_names=list(names),
        output_names=["logits"],
        dynamic_shapes=(tuple(dict(enumerate(dimensions)) for _ in names),),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def score(run: FinishedRun, data: TaskData, folder: Path) -> dict[str, MetricValue]:
    """Every metric of an ONNX file on the run's evaluation split."""
    encoded, settings = run.encode(data, run.recipe.evaluation.split), run.recipe.evaluation
    session, rows = _session(folder), keep_inputs(encoded)
    names = [each.name for each in session.get_inputs()]
    lengths = token_lengths(rows, data.card.name)
    collate = MultiTaskCollator.for_tokenizer(run.tokenizer)
    parts = []
    for batch in EvalBatches(data.card.name, rows, lengths, collate, limit=run.batch_tokens):
        mask = batch.inputs["attention_mask"]
        present = present_sequences(mask) if mask.dim() == 3 else None
        feed = {name: batch.inputs[name] if present is None else batch.inputs[name][present] for name in names}
        (logits,) = session.run(["logits"], {name: value.numpy() for name, value in feed.items()})
        if present is not None:
            logits = scores_by_row(torch.from_numpy(logits), present).numpy()
        parts.append((batch.rows, np.asarray(logits, np.float32)))
    scorer, logits = run.scorer(data, encoded), assemble(parts, lengths)
    assert logits is not None
    return scorer.evaluate(
        scorer.decode(list(logits)),
        replicates=settings.bootstrap_replicates,
        seed=run.recipe.training.seed,
        level=settings.confidence,
    )


def _session(folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(folder / FILE_NAME), options, providers=["CPUExecutionProvider"])
