"""A finished run's model, as it was trained: any strategy, any fusion, quantized or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import RunResult, read_result
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.backbone import Source, load_config
from hf_crosstask.models.build import build_model
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import Precision
from hf_crosstask.models.strategy_layout import strategy_layout
from hf_crosstask.models.tiny import is_tiny
from hf_crosstask.recipe import Recipe, load_recipe
from hf_crosstask.run.matched_adapter import adapter_reaching
from hf_crosstask.tasks.registry import resolve_card


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, ready to predict.

    Attributes:
        model: all its tasks that have scores, in evaluation mode, in fp32 (a 4-bit backbone computes in fp32).
        tokenizer: the backbone's.
        recipe, result: what was run, and what came of it.
    """

    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerBase
    recipe: Recipe
    result: RunResult


def load_run(folder: str | Path, *, base_model: str | None = None, device: str = "cpu") -> LoadedRun:
    """Load what a run trained.

    Args:
        folder: the run folder.
        base_model: where the backbone is, if not where the run had it.
        device: where the model is put.

    Raises:
        InputError: the folder holds no finished run, or its backbone is not to be found.
    """
    folder, place = Path(folder), torch.device(device)
    result, recipe = read_result(folder), load_recipe(folder / "recipe.json")
    model = recipe.model
    name = base_model or result.model.get("loaded_from", model.name_or_path)
    if base_model is None and is_tiny(model.name_or_path) and not Path(name).is_dir():
        name = str(folder / "base_model" / Path(name).name)  # the run folder was moved
    source = Source(name, model.revision, model.trust_remote_code, model.attn_implementation)
    config, cards = load_config(source), [resolve_card(spec) for spec in recipe.tasks]
    layout = None
    if model.adapter is not None:
        lora = LoraSettings.of(model.adapter)
        if result.match is not None and result.match.parameters is not None:
            lora, _ = adapter_reaching(result.match.parameters.target, cards[0], config, lora)
        layout = strategy_layout(recipe.strategy, lora, cards, config, result.stages.order if result.stages else None)
    quantization = "nf4" if result.model.get("quantization") == "nf4" else "none"
    loaded = build_model(
        source,
        config,
        [card for card in cards if card.name not in recipe.text_tasks],
        precision=Precision("fp32", torch.float32, quantization, place),  # type: ignore[arg-type]
        lora=layout,
        head_dropout=model.head_dropout,
        seed=recipe.training.seed,
    )
    try:
        loaded.restore(folder)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: {error}") from error
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "tokenizer"))
    return LoadedRun(loaded.to(place).eval(), tokenizer, recipe, result)
