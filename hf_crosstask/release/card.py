"""The model card of a release, with its evidence: valid Hub metadata, and a page rendered from the run's own record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_crosstask.evaluation.result import RunResult
from hf_crosstask.recipe import Recipe
from hf_crosstask.release import card_tables as tables
from hf_crosstask.release.bundle import Run, is_hub_name
from hf_crosstask.release.terms import common_identifier
from hf_crosstask.release.usage import hub_task, usage_of
from hf_crosstask.tasks.card import TaskCard

if TYPE_CHECKING:
    from huggingface_hub import ModelCard, ModelCardData

#: Metric names of the Hub for the last word of ours.
_HUB_METRICS = ("f1", "precision", "recall", "accuracy", "pearson", "spearman", "map", "mrr", "bleu", "perplexity")
_ROUGE = "rouge"
_SMALL = 10_000_000  # parameters below which a base model is a toy
_LICENCE_NAME = "terms-of-base-model-and-corpora"


@dataclass(frozen=True)
class CardOptions:
    """What a card says that no run knows.

    Attributes:
        licence: the Hub's identifier of a licence; None: what the corpora share, else `other` with `LICENSE.md`.
        language: ISO 639 codes of the texts.
        verdicts: a study's `statistics.json`.
    """

    licence: str | None = None
    language: Sequence[str] = ("en",)
    verdicts: Path | None = None


@dataclass(frozen=True)
class _Subject:
    """What a card is about: a recipe, and the run of it where there is one."""

    recipe: Recipe
    cards: Mapping[str, TaskCard]
    released: Mapping[str, TaskCard]
    run: Run | None = None
    result: RunResult | None = field(default=None)

    @property
    def base(self) -> str | None:
        """The base model's Hub id; None for one that is no Hub model."""
        name = self.run.base if self.run else self.recipe.model.name_or_path
        return name if is_hub_name(name) and (self.run is None or self.run.own_base is None) else None


def run_card(run: Run, repo: str, options: CardOptions = CardOptions()) -> ModelCard:
    """The card of a released run, or of its one released task (`run.task`).

    Args:
        run: the run.
        repo: `user/name` of the release.
        options: what the run does not know.
    """
    return _render(_Subject(run.recipe, run.cards, run.released, run, run.result), repo, options)


def recipe_card(recipe: Recipe, cards: Mapping[str, TaskCard], repo: str, options: CardOptions) -> ModelCard:
    """The card of a recipe that has not been trained for release: it says so, and holds no scores."""
    return _render(_Subject(recipe, cards, cards), repo, options)


def licence_text(cards: Mapping[str, TaskCard], base: str) -> str:
    """`LICENSE.md`: the terms of everything that a release derives from."""
    rows = [(f"`{name}`", tables.plain(card.licence), card.access) for name, card in cards.items()]
    return (
        f"# Terms\n\nThese weights derive from the base model {base}, under its licence, and from the corpora below, under "
        f"theirs.\n\n{tables.table(('corpus', 'licence', 'access'), rows)}\n"
    )


def _render(subject: _Subject, repo: str, options: CardOptions) -> ModelCard:
    from huggingface_hub import ModelCard

    template = resources.files("hf_crosstask.release").joinpath("templates/model_card.md").read_text(encoding="utf-8")
    return ModelCard.from_template(
        _metadata(subject, options), template_str=template, **_content(subject, repo, options)
    )


def _metadata(subject: _Subject, options: CardOptions) -> ModelCardData:
    from huggingface_hub import ModelCardData

    recipe = subject.recipe
    licence = options.licence or common_identifier(subject.cards.values())
    extra: dict[str, Any] = {}
    if licence == "other":
        extra |= {"license_name": _LICENCE_NAME, "license_link": "LICENSE.md"}
    results = _evaluations(subject)
    if results:
        extra |= {"model_name": recipe.name, "eval_results": results}
        extra["metrics"] = sorted({each.metric_type for each in results})
    adapter = recipe.model.adapter
    kinds = [hub_task(card) for card in subject.released.values()]
    return ModelCardData(
        base_model=subject.base,
        datasets=[_dataset(card) for card in subject.cards.values()],
        language=list(options.language),
        library_name="peft" if adapter else "transformers",
        license=licence,
        pipeline_tag=max(kinds, key=kinds.count),
        tags=_tags(subject),
        **extra,
    )


def _tags(subject: _Subject) -> list[str]:
    recipe = subject.recipe
    tags = ["hf_crosstask", recipe.strategy.name.lower()]
    if recipe.model.adapter:
        tags.append(recipe.model.adapter.type)
    if len(subject.cards) > 1:
        tags.append("multi-task")
    provenances = {card.provenance for card in subject.cards.values()}
    if provenances != {"synthetic"}:
        tags.append("biomedical")
    return tags


def _dataset(card: TaskCard) -> str:
    """A Hub id where the task is read from the Hub, else the task's name."""
    return card.path if card.reader == "hub" and isinstance(card.path, str) else card.name


def _evaluations(subject: _Subject) -> list[Any]:
    from huggingface_hub import EvalResult

    if subject.result is None:
        return []
    split = str(subject.result.evaluation.get("split", "test"))
    return [
        EvalResult(
            task_type=hub_task(card),
            task_name=card.type,
            dataset_type=_dataset(card),
            dataset_name=name,
            dataset_split=split,
            metric_type=_metric(metric),
            metric_name=metric,
            metric_value=round(value.value, 6),
        )
        for name, card in subject.released.items()
        for metric, value in subject.result.tasks[name].metrics.values.items()
    ]


def _metric(name: str) -> str:
    if name.startswith(_ROUGE):
        return _ROUGE
    last = name.rsplit("_", 1)[-1]
    return {"pearson": "pearsonr", "spearman": "spearmanr"}.get(last, last) if last in _HUB_METRICS else name


def _content(subject: _Subject, repo: str, options: CardOptions) -> dict[str, Any]:
    recipe, released = subject.recipe, list(subject.released)
    base = subject.base
    others = [name for name in subject.cards if name not in subject.released]
    content: dict[str, Any] = {
        "title": recipe.name if len(released) != 1 or len(subject.cards) == 1 else f"{recipe.name}: {released[0]}",
        "released": subject.run is not None,
        "repo": repo,
        "recipe": recipe,
        "plain": tables.plain,
        "kind": _kind(recipe, len(released)),
        "base": f"[{base}](https://huggingface.co/{base})" if base else f"`{tables.plain(recipe.model.name_or_path)}`",
        "task_list": ", ".join(f"`{name}` ({subject.cards[name].type})" for name in released),
        "other_tasks": ", ".join(f"`{name}`" for name in others),
        "corpora": tables.corpora(subject.cards, subject.result),
        "restrictions": tables.restrictions(subject.cards),
        "settings": _settings(recipe, subject.result),
        "small": subject.result is not None and subject.result.parameters.total < _SMALL,
        "reproduce": f"hf-crosstask train recipes/{recipe.name}.json",
    }
    if subject.run is None or subject.result is None:
        return content
    return content | _evidence(subject.run, subject.result, repo, options)


def _evidence(run: Run, result: RunResult, repo: str, options: CardOptions) -> dict[str, Any]:
    train, analysed = result.train, tables.analysed(run.folder)
    data = " data_dir=data" if run.recipe.data_dir else ""
    return {
        "split": result.evaluation.get("split", "test"),
        "results": tables.results(run),
        "further_results": tables.further_results(run),
        "usages": {task: usage_of(run, repo, task) for task in run.released},
        "labels": {task: tables.labels(card) for task, card in run.released.items()},
        "own_base": run.own_base,
        "ledger": tables.ledger(result),
        "parity": tables.parity(result),
        "verdicts": tables.verdicts(options.verdicts, run.released) if options.verdicts else None,
        "leakage": tables.leakage(result),
        "analyses": tables.analyses(run.folder),
        "missing_analyses": [kind.capitalize() for kind in ("calibration", "contamination") if kind not in analysed],
        "hardware": f"{tables.plain(result.environment.hardware)}; {_count(result.environment.processes, 'process')}",
        "training_time": _duration(train.runtime_s),
        "throughput": f"{train.tokens_per_s:,.0f}",
        "memory": f"{train.peak_memory_bytes / 2**30:.2f} GiB" if train.peak_memory_bytes else "not measured",
        "parameters": f"{result.parameters.total:,}",
        "trained_parameters": f"{result.parameters.trainable:,} (heads {result.parameters.heads:,})",
        "energy": _energy(result),
        "versions": ", ".join(f"{name} {version}" for name, version in result.environment.versions.items())
        + (f"; commit `{result.environment.git_commit}`" if result.environment.git_commit else ""),
        "fingerprints": result.fingerprints,
        "reproduce": f"hf download {repo} recipe.json --local-dir . && "
        f"hf-crosstask train recipe.json output_dir=outputs/again{data}",
    }


def _kind(recipe: Recipe, tasks: int) -> str:
    if recipe.model.adapter is None:
        return "A fine-tuned model from"
    return "A LoRA adapter with its head on" if tasks == 1 else f"LoRA adapters with heads for {tasks} tasks on"


def _settings(recipe: Recipe, result: RunResult | None) -> list[tuple[str, str]]:
    adapter, training = recipe.model.adapter, recipe.training
    arguments = training.arguments()
    budget = {key: value for key, value in recipe.budget.model_dump().items() if value is not None}
    rows = {
        "strategy": recipe.strategy.name,
        "adapter": f"LoRA, r {adapter.r}, alpha {adapter.alpha:g}, dropout {adapter.dropout:g}" if adapter else "none",
        "precision": result.model.get("precision", recipe.model.precision) if result else recipe.model.precision,
        "longest input": f"{recipe.model.max_length} tokens",
        "mixing": recipe.mixing.sampling,
        "budget": ", ".join(
            f"{key} {value['run'] if isinstance(value, dict) else format(value, 'g')}" for key, value in budget.items()
        ),
        "tokens per step": f"{training.tokens_per_step:,}",
        "learning rate": f"{arguments.get('learning_rate', 5e-05):g}",
        "schedule": str(arguments.get("lr_scheduler_type", "linear")),
        "seed": str(training.seed),
    }
    return [(name, tables.plain(value)) for name, value in rows.items()]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.2f} h"


def _energy(result: RunResult) -> str:
    energy = result.train.energy
    if energy is None:
        return "not measured"
    hours = energy.watt_hours
    if hours is None:
        return f"not measured: {', '.join(dict.fromkeys(energy.missing.values()))}"
    parts = " and ".join(part.upper() for part, joules in energy.joules.items() if joules is not None)
    return f"{hours:.4g} Wh in training ({parts}; whatever else ran on the machine is in it)"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}es"
