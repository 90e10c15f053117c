"""From a recipe to a plan: data, tokenizer, encoded splits, budget. Nothing here needs the backbone's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.encoding.encode import EncodedTask, encode_task
from hf_crosstask.encoding.prompts import written_out
from hf_crosstask.encoding.text import TextTasks, as_text, text_tasks
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.scorer import WITH_THRESHOLD, Scorer, build_scorer
from hf_crosstask.models.adapter_layout import AdapterLayout
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.backbone import Source, is_causal, load_config, load_tokenizer
from hf_crosstask.models.strategy_layout import strategy_layout
from hf_crosstask.models.tiny import build_tiny, is_tiny
from hf_crosstask.planning.budget import Budget, choose_exactly
from hf_crosstask.planning.flops import FlopAccount
from hf_crosstask.planning.mixing import Mixing, apportion, token_shares
from hf_crosstask.planning.plan import TrainingPlan, plan
from hf_crosstask.planning.stages import plan_stages, stages_of
from hf_crosstask.recipe import Recipe
from hf_crosstask.run.flops import flop_account
from hf_crosstask.run.matched_adapter import MatchedAdapter, match_parameters
from hf_crosstask.run.placebo import permute_labels
from hf_crosstask.tasks.audit import Audited, apply_policy
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.training.matching import Reference, read_reference
from hf_crosstask.training.rows import row_shapes, token_lengths

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs besides the model.

    Attributes:
        recipe: the recipe.
        data: each task's examples.
        source: where the backbone is; a tiny model has been made.
        config: the backbone's configuration.
        tokenizer: its tokenizer.
        encoded: each task's encoded splits; of a task that is trained on its text alone, its training rows as text.
        audited: the leakage audit and what it dropped; None where nothing was audited.
        plan: the training plan.
        reference: the run whose tokens are matched.
        fitting: how the size of micro-batches was found, where the recipe leaves it to the device.
        matched_adapter: the adapter with as many trainable parameters as another run, where these are matched.
    """

    recipe: Recipe
    data: Mapping[str, TaskData]
    source: Source
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    encoded: Mapping[str, Mapping[str, EncodedTask]]
    audited: Audited | None
    plan: TrainingPlan
    reference: Reference | None
    fitting: Mapping[str, Any] | None = None
    matched_adapter: MatchedAdapter | None = None

    @cached_property
    def layout(self) -> AdapterLayout | None:
        """Which adapters there are, and which each task uses; None where the backbone itself trains."""
        order = [stage.task for stage in stages_of(self.plan)] or None
        return _layout(self.recipe, self.lora, self.data, self.config, order)

    @property
    def lora(self) -> LoraSettings | None:
        """The recipe's adapter, with the ranks that match another run's parameters where that is asked for."""
        return self.matched_adapter.lora if self.matched_adapter else _lora(self.recipe)

    @cached_property
    def flops(self) -> FlopAccount | None:
        """What the tasks cost; None where the operations of the backbone cannot be counted."""
        try:
            return flop_account(self.config, self.layout, self.encoded, self.text)
        except InputError:
            return None

    @cached_property
    def text(self) -> TextTasks:
        """The tasks that are trained on their text alone."""
        return text_tasks(self.recipe.text_tasks, self.tokenizer, causal=is_causal(self.config))

    @property
    def scored(self) -> dict[str, TaskData]:
        """The tasks that have scores: those that are trained on labels."""
        return {task: data for task, data in self.data.items() if task not in self.text.names}

    def split(self, name: str) -> dict[str, Dataset]:
        """A split's encoded rows, of every task that has scores."""
        return {task: self.encoded[task][name].dataset for task in self.scored}

    @property
    def data_fingerprint(self) -> str:
        """Of all tasks' data together, as the audit left them."""
        return json_fingerprint({task: data.fingerprint for task, data in self.data.items()})

    @property
    def run_fingerprint(self) -> str:
        """What a checkpoint must share to be resumed, besides the plan."""
        return json_fingerprint([self.recipe.fingerprint(), self.data_fingerprint])

    def scorer(self, task: str, split: str) -> Scorer:
        """The scorer of one split of one task."""
        data = self.data[task]
        return build_scorer(
            data.card,
            data.splits[split],
            self.encoded[task][split].dataset,
            data.lost_gold.get(split, {}),
            train=data.splits["train"],
        )


def prepare(recipe: Recipe, *, base_models: Path) -> Prepared:
    """Load, encode and plan.

    Args:
        recipe: the recipe.
        base_models: where a tiny model is kept.

    Raises:
        InputError: data, model, budget or reference of the recipe are wrong.
    """
    reference = None
    if recipe.budget.match is not None:
        match = recipe.budget.match
        reference = read_reference(match.run, match.mode, match.fraction)
    data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
    loaded = {spec.name: load_task(spec, data_dir=data_dir) for spec in recipe.tasks}
    together, audited = _audited(recipe, loaded)
    data = {task: together[task] for task in loaded}
    needed = tuple(_needed_splits(recipe))
    for task, each in data.items():
        for split, why in needed:
            unused = task in recipe.text_tasks and split != "train"
            if split not in each.splits and not unused:
                raise InputError(
                    f"task {task} has no {split} split, which {why} needs; it has {', '.join(each.splits)}"
                )
    source = _backbone_source(recipe, together, reference, base_models)
    data = {
        task: permute_labels(each, recipe.training.seed) if recipe.placebos.get(task) == "permuted_labels" else each
        for task, each in data.items()
    }
    config, tokenizer = load_config(source), load_tokenizer(source)
    encoded = {
        task: {
            split: encode_task(
                each.splits[split],
                each.card,
                tokenizer,
                max_length=recipe.model.max_length,
                stride=recipe.model.stride,
                causal=is_causal(config),
                long_inputs=recipe.model.long_inputs,
                split=split,
            )
            for split in _used_splits(recipe, each)
        }
        for task, each in data.items()
    }
    text = text_tasks(recipe.text_tasks, tokenizer, causal=is_causal(config))
    for task in text.names:
        encoded[task]["train"] = as_text(encoded[task]["train"], text.masking, seed=recipe.training.seed)
    if reference is not None and reference.mode == "unique_tokens":
        encoded = _sampled(recipe, encoded, reference.target(tuple(encoded)))
    account = adapter = None
    if reference is not None and reference.mode == "parameters":
        adapter = match_parameters(recipe, next(iter(data.values())).card, config, reference)
    if reference is not None and reference.mode == "flops":
        account = flop_account(config, _layout(recipe, _lora(recipe), data, config), encoded, text)
    training_plan = _plan(recipe, encoded, reference, fixed_micro_batch_tokens(recipe), account)
    return Prepared(
        *(recipe, data, source, config, tokenizer, encoded, audited, training_plan, reference), matched_adapter=adapter
    )


def _lora(recipe: Recipe) -> LoraSettings | None:
    adapter = recipe.model.adapter
    return None if adapter is None else LoraSettings.of(adapter)


def _layout(
    recipe: Recipe,
    lora: LoraSettings | None,
    data: Mapping[str, TaskData],
    config: PretrainedConfig,
    order: list[str] | None = None,
) -> AdapterLayout | None:
    if lora is None:
        return None
    return strategy_layout(recipe.strategy, lora, [each.card for each in data.values()], config, order)


def replan(prepared: Prepared, micro_batch_tokens: int) -> Prepared:
    """The same run in other micro-batches, where the recipe leaves their size to the device ("auto")."""
    plan = _plan(prepared.recipe, prepared.encoded, prepared.reference, micro_batch_tokens, prepared.flops)
    return replace(prepared, plan=plan)


def fixed_micro_batch_tokens(recipe: Recipe) -> int | None:
    """What the recipe says of the size of micro-batches; None where the device decides, or nothing does."""
    tokens = recipe.training.micro_batch_tokens
    return None if tokens == "auto" else tokens


def _plan(
    recipe: Recipe,
    encoded: Mapping[str, Mapping[str, EncodedTask]],
    reference: Reference | None,
    micro_batch_tokens: int | None,
    account: FlopAccount | None,
) -> TrainingPlan:
    lengths = {task: token_lengths(splits["train"].dataset, task) for task, splits in encoded.items()}
    shapes = {task: row_shapes(splits["train"].dataset, task) for task, splits in encoded.items()}

    def make(budget: Budget) -> TrainingPlan:
        common: Any = {
            "shapes": shapes,
            "budget": budget,
            "mixing": mixing(recipe),
            "tokens_per_step": recipe.training.tokens_per_step,
            "micro_batch_tokens": micro_batch_tokens,
            "seed": recipe.training.seed,
        }
        strategy = recipe.strategy
        if strategy.layout != "S4":
            return plan(lengths, **common)
        return plan_stages(lengths, order=strategy.order or "given", rehearsal=strategy.rehearsal or 0.0, **common)

    if reference is not None:
        return reference.plan(tuple(encoded), make, account)
    settings = recipe.budget
    return make(Budget(settings.epochs, settings.steps, settings.tokens))


def _sampled(
    recipe: Recipe, encoded: Mapping[str, Mapping[str, EncodedTask]], tokens: int
) -> dict[str, dict[str, EncodedTask]]:
    """Training splits cut to a seeded sample of rows, so that all of them together hold `tokens` forward tokens."""
    lengths = {task: token_lengths(splits["train"].dataset, task) for task, splits in encoded.items()}
    totals = {task: int(each.sum()) for task, each in lengths.items()}
    if tokens > sum(totals.values()):
        raise InputError(
            f"cannot match {tokens:,} different tokens: the training data of {', '.join(encoded)} has "
            f"{sum(totals.values()):,}"
        )
    shares = token_shares(mixing(recipe), {task: len(each) for task, each in lengths.items()}, totals)
    sampled: dict[str, dict[str, EncodedTask]] = {}
    for task, quota in apportion(tokens, shares).items():
        if quota > totals[task]:
            raise InputError(
                f"cannot match {tokens:,} different tokens: the mixing gives {task} {quota:,} of them, but it has "
                f"{totals[task]:,}; use a flatter mixing, or more data"
            )
        order = np.random.default_rng([recipe.training.seed, *task.encode()]).permutation(len(lengths[task]))
        rows = np.sort(order[choose_exactly(lengths[task][order], quota)])
        train = encoded[task]["train"]
        sampled[task] = {**encoded[task], "train": replace(train, dataset=train.dataset.select(rows))}
    return sampled


def audit_data(recipe: Recipe, data: Mapping[str, TaskData]) -> tuple[dict[str, TaskData], Audited | None]:
    """The tasks as the recipe's leakage policy leaves them. A single task is audited where the recipe says so.

    Tasks named in `audit.against` are loaded and audited with them. Where training examples are dropped, the task's
    fingerprint says so.

    Raises:
        LeakageError: evaluation examples are in training data, and the policy forbids it.
    """
    together, audited = _audited(recipe, data)
    return {task: together[task] for task in data}, audited


def _audited(recipe: Recipe, data: Mapping[str, TaskData]) -> tuple[dict[str, TaskData], Audited | None]:
    """The same with the tasks of `audit.against`, which the run does not train."""
    if recipe.audit is None and len(data) == 1:
        return dict(data), None
    data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
    against = recipe.audit.against if recipe.audit else ()
    others = {spec.name: load_task(spec, data_dir=data_dir) for spec in against if spec.name not in data}
    together = {**data, **others}
    audited = apply_policy(together, recipe.audit)
    return {task: _as_purged(each, audited.splits[task]) for task, each in together.items()}, audited


def _as_purged(data: TaskData, splits: dict[str, Dataset]) -> TaskData:
    if "train" not in splits or len(splits["train"]) == len(data.splits["train"]):
        return replace(data, splits=splits)
    fingerprint = json_fingerprint([data.fingerprint, splits["train"]["id"][:]])
    return replace(data, splits=splits, fingerprint=fingerprint)


def mixing(recipe: Recipe) -> Mixing:
    """The recipe's mixing rule."""
    settings = recipe.mixing
    return Mixing(settings.sampling, settings.temperature or 1.0, settings.weights, settings.unit)


def evaluates_in_training(recipe: Recipe) -> bool:
    """Whether the validation splits are scored during training."""
    return getattr(recipe.training, "eval_strategy", None) not in (None, "no")


def chooses_threshold(recipe: Recipe, data: TaskData) -> bool:
    """Whether the task decides by a threshold that its validation split chooses (see `run.thresholds`)."""
    split = "validation"
    if data.card.formulation != "head":
        return False
    return data.card.type in WITH_THRESHOLD and split in data.splits and recipe.evaluation.split != split


def _uses_validation(recipe: Recipe, data: TaskData) -> bool:
    """Whether the validation split is used where there is one."""
    return chooses_threshold(recipe, data) or stage_split(recipe, data) == "validation"


def stage_split(recipe: Recipe, data: TaskData) -> str | None:
    """The split that a task is scored on after every stage: validation, or the evaluated one; None without stages."""
    if recipe.strategy.layout != "S4":
        return None
    return "validation" if "validation" in data.splits else recipe.evaluation.split


def _used_splits(recipe: Recipe, data: TaskData) -> list[str]:
    """The splits of a task that a run encodes; of a task that is trained on its text alone, the training split."""
    if data.card.name in recipe.text_tasks:
        return ["train"]
    needed = [split for split, _ in _needed_splits(recipe)]
    return list(dict.fromkeys([*needed, *(["validation"] if _uses_validation(recipe, data) else [])]))


def _needed_splits(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield "train", "training"
    if evaluates_in_training(recipe):
        yield "validation", "training.eval_strategy"
    yield recipe.evaluation.split, "evaluation.split"
    if recipe.evaluation.score_validation:
        yield "validation", "evaluation.score_validation"


def _backbone_source(
    recipe: Recipe, data: Mapping[str, TaskData], reference: Reference | None, base_models: Path
) -> Source:
    """Where the backbone is; a tiny model is made from the training texts, or taken from the run that is matched."""
    model = recipe.model
    name = model.name_or_path
    if is_tiny(name):
        shared = _tiny_model_of(reference) if reference else None
        if shared is not None and shared.name.startswith(f"tiny-{name.partition(':')[2]}-"):
            # Tokens compare only under one tokenizer, and a tiny model's is trained on its own run's texts.
            name = str(shared)
        else:
            name = str(build_tiny(name, list(_texts(data)), base_models.resolve(), seed=0))
    return Source(name, model.revision, model.trust_remote_code, model.attn_implementation)


def _tiny_model_of(reference: Reference) -> Path | None:
    folder = Path(reference.path)
    folder = (folder if folder.is_dir() else folder.parent) / "base_model"
    return next((path.resolve() for path in sorted(folder.glob("tiny-*"))), None)


def _texts(data: Mapping[str, TaskData]) -> Iterator[str]:
    for each in data.values():
        train = each.splits["train"]
        yield from train["text"][:]
        yield from (text for text in train["text_pair"][:] if text)
        yield from (choice for choices in train["choices"][:] for choice in choices)
        if each.card.formulation != "head":
            yield from written_out(each.card, train)
