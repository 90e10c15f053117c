"""A finished run, opened again: its recipe and result, and each task's data as the run scored it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hf_crosstask.encoding.encode import EncodedTask, encode_task
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation.result import RunResult, TaskResult, read_result
from hf_crosstask.evaluation.scorer import Scorer, build_scorer
from hf_crosstask.models.backbone import Source, is_causal, load_config, load_tokenizer
from hf_crosstask.recipe import Recipe, load_recipe
from hf_crosstask.run.prepare import audit_data
from hf_crosstask.tasks.audit import AuditSpec
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.registry import resolve_card

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class FinishedRun:
    """A run whose `result.json` says that it finished.

    Attributes:
        folder: the run folder.
        recipe: what fixed the run.
        result: what came of it.
    """

    folder: Path
    recipe: Recipe
    result: RunResult

    @cached_property
    def source(self) -> Source:
        """Where the backbone is: a Hub id or a folder; a tiny model may have moved with the run.

        Raises:
            InputError: the backbone was a folder, which is gone.
        """
        model, name = self.recipe.model, self.result.model["loaded_from"]
        moved = self.folder / "base_model" / Path(name).name
        if moved.is_dir():
            name = str(moved.resolve())
        elif Path(name).is_absolute() and not Path(name).is_dir():
            raise InputError(f"{self.folder}: its base model {name} is gone, and {moved} is not there either")
        return Source(name, model.revision, model.trust_remote_code, model.attn_implementation)

    @cached_property
    def config(self) -> PretrainedConfig:
        """The backbone's configuration."""
        return load_config(self.source)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that the run saved."""
        return load_tokenizer(Source(str(self.folder / "tokenizer")))

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of one evaluation batch, as in the run."""
        training = self.recipe.training
        micro_batch = training.micro_batch_tokens or training.tokens_per_step
        if micro_batch == "auto":
            micro_batch = int((self.result.fitting or {})["micro_batch_tokens"])
        return training.eval_batch_tokens or 2 * micro_batch

    def choose(self, task: str | None) -> str:
        """A task of the run; its only one where none is named.

        Raises:
            InputError: there is no such task, or several and none is named.
        """
        tasks = list(self.result.tasks)
        if task is None and len(tasks) > 1:
            raise InputError(f"{self.folder} has several tasks; choose one with --task: {', '.join(tasks)}")
        task = task or tasks[0]
        if task not in tasks:
            raise InputError(f"{self.folder}: {unknown_name('task', task, tasks)}")
        return task

    def card(self, task: str) -> TaskCard:
        """A task's card, as the recipe has it."""
        return resolve_card(next(spec for spec in self.recipe.tasks if spec.name == task))

    def score(self, task: str) -> TaskResult:
        """What the run reported of a task."""
        return self.result.tasks[task]

    def data(self, task: str) -> TaskData:
        """A task's examples as the run used them.

        Raises:
            InputError: the data changed since the run.
        """
        recipe, audit = self.recipe, self.recipe.audit or AuditSpec()
        data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
        specs = {spec.name: spec for spec in recipe.tasks}
        if "purge" not in (audit.policy, audit.within_task):
            data = load_task(specs[task], data_dir=data_dir)
        else:  # what was purged of one task depends on the others
            loaded = {name: load_task(spec, data_dir=data_dir) for name, spec in specs.items()}
            data = audit_data(recipe, loaded)[0][task]
        trained_on = self.result.tasks[task].data_fingerprint
        if trained_on is not None and data.fingerprint != trained_on:
            raise InputError(
                f"task {task}: its data is not what {self.folder} was trained on; scores would not compare"
            )
        return data

    def encode(self, data: TaskData, split: str) -> EncodedTask:
        """A split as the run encoded it."""
        model = self.recipe.model
        return encode_task(
            data.splits[split],
            data.card,
            self.tokenizer,
            max_length=model.max_length,
            stride=model.stride,
            causal=is_causal(self.config),
            long_inputs=model.long_inputs,
            split=split,
        )

    def scorer(self, data: TaskData, encoded: EncodedTask) -> Scorer:
        """The scorer of the split that the run reported, with the threshold that the run decided by."""
        split = self.recipe.evaluation.split
        scorer = build_scorer(
            data.card,
            data.splits[split],
            encoded.dataset,
            data.lost_gold.get(split, {}),
            train=data.splits["train"],
        )
        threshold = (self.result.tasks[data.card.name].metrics.model_extra or {}).get("threshold")
        return scorer if threshold is None else scorer.with_threshold(threshold)


def open_run(folder: str | Path) -> FinishedRun:
    """Open a run folder.

    Raises:
        InputError: there is no finished run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    result = read_result(folder)
    recipe = load_recipe(folder / "recipe.json")
    return FinishedRun(folder, recipe, result)


def limited(encoded: EncodedTask, rows: int) -> EncodedTask:
    """The first rows of an encoded split."""
    return replace(encoded, dataset=encoded.dataset.select(range(min(rows, len(encoded.dataset)))))
