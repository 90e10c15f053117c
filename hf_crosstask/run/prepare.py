"""From a recipe to a plan: data, tokenizer, encoded splits, budget. Nothing here needs the backbone's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.encoding.encode import EncodedTask, encode_task
from hf_crosstask.encoding.prompts import written_out
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.scorer import WITH_THRESHOLD, Scorer, build_scorer
from hf_crosstask.models.backbone import Source, is_causal, load_config, load_tokenizer
from hf_crosstask.models.tiny import build_tiny, is_tiny
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.mixing import Mixing
from hf_crosstask.planning.plan import TrainingPlan, plan
from hf_crosstask.recipe import Recipe
from hf_crosstask.tasks.audit import Audited, apply_policy
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.training.matching import Reference, read_reference
from hf_crosstask.training.rows import row_shapes, token_lengths


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs besides the model.

    Attributes:
        recipe: the recipe.
        data: each task's examples.
        source: where the backbone is; a tiny model has been made.
        config: the backbone's configuration.
        tokenizer: its tokenizer.
        encoded: each task's encoded splits.
        audited: the leakage audit and what it dropped; None where nothing was audited.
        plan: the training plan.
        reference: the run whose tokens are matched.
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

    @property
    def data_fingerprint(self) -> str:
        """Of all tasks' data together, as the audit left them."""
        purged = self.audited.purged.model_dump(mode="json") if self.audited and self.audited.purged else None
        dropped = purged if purged and any(purged["dropped"].values()) else None
        return json_fingerprint([{task: data.fingerprint for task, data in self.data.items()}, dropped])

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
        reference = read_reference(recipe.budget.match.run, recipe.budget.match.mode)
    data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
    data, audited = audit_data(recipe, {spec.name: load_task(spec, data_dir=data_dir) for spec in recipe.tasks})
    needed = tuple(_needed_splits(recipe))
    for task, each in data.items():
        for split, why in needed:
            if split not in each.splits:
                raise InputError(
                    f"task {task} has no {split} split, which {why} needs; it has {', '.join(each.splits)}"
                )
    source = _backbone_source(recipe, data, reference, base_models)
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
            for split in dict.fromkeys([*dict(needed), *(["validation"] if chooses_threshold(recipe, each) else [])])
        }
        for task, each in data.items()
    }
    training = recipe.training
    training_plan = plan(
        {task: token_lengths(splits["train"].dataset, task) for task, splits in encoded.items()},
        shapes={task: row_shapes(splits["train"].dataset, task) for task, splits in encoded.items()},
        budget=_budget(recipe, reference),
        mixing=mixing(recipe),
        tokens_per_step=training.tokens_per_step,
        micro_batch_tokens=training.micro_batch_tokens,
        seed=training.seed,
    )
    return Prepared(recipe, data, source, config, tokenizer, encoded, audited, training_plan, reference)


def audit_data(recipe: Recipe, data: Mapping[str, TaskData]) -> tuple[dict[str, TaskData], Audited | None]:
    """The tasks as the recipe's leakage policy leaves them. A single task is audited where the recipe says so.

    Raises:
        LeakageError: evaluation examples are in training data, and the policy forbids it.
    """
    if recipe.audit is None and len(data) == 1:
        return dict(data), None
    audited = apply_policy(data, recipe.audit)
    return {task: replace(each, splits=audited.splits[task]) for task, each in data.items()}, audited


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


def _budget(recipe: Recipe, reference: Reference | None) -> Budget:
    if reference is not None:
        return Budget(tokens=reference.tokens)
    settings = recipe.budget
    return Budget(settings.epochs, settings.steps, settings.tokens)


def _needed_splits(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield "train", "training"
    if evaluates_in_training(recipe):
        yield "validation", "training.eval_strategy"
    yield recipe.evaluation.split, "evaluation.split"


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
