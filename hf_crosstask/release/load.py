"""`load_released`: a released (or finished) run's task as model, tokenizer and a function from texts to predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import datasets
import torch

from hf_crosstask.encoding.encode import encode_task
from hf_crosstask.encoding.prompts import answer_room
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation.predictions import ENTITY_TYPES, SET_TYPES, Predictions
from hf_crosstask.evaluation.scorer import build_scorer
from hf_crosstask.models.backbone import Source, is_causal, load_backbone, take_pooler
from hf_crosstask.models.build import build_head
from hf_crosstask.models.export_hierarchical import load_fed_task
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.release.bundle import HIERARCHY, MANIFEST, cards_of, needs_all, read_manifest
from hf_crosstask.release.finished import FinishedRun, open_run
from hf_crosstask.release.measure import generate, outputs
from hf_crosstask.release.merge import CLASSES, DTYPES, kind_of, load_head
from hf_crosstask.run.load import load_run
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import check_examples, make_example, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_crosstask.models.layouts import HeadLayout

_ROOT = "base_model.model."
Input = str | Mapping[str, Any]


class Released(NamedTuple):
    """What `load_released` returns; unpacks as `model, tokenizer, predict`."""

    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerBase
    predict: Predictor


def load_released(
    name: str | Path,
    *,
    task: str | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> Released:
    """Load one task of a release from the Hub, or of a run folder.

    Args:
        name: `user/name` on the Hub, a folder with a downloaded release, or a run folder.
        task: its name; may be left out where the release has one task.
        revision: commit, tag or branch on the Hub; pin a commit for results that do not change.
        device: where the model goes.
        token: for private repositories; None: the one of `hf auth login` or HF_TOKEN.
        trust_remote_code: run code of the base model's repository.

    Raises:
        InputError: there is no such release or task, it may not be read, or its files are damaged.
    """
    folder = Path(name) if Path(name).is_dir() else _download(str(name), task, revision, token)
    run = open_run(folder)
    cards, manifest = cards_of(folder, run.recipe), read_manifest(folder)
    task = _choose(str(name), task, list(cards), manifest)
    if trust_remote_code != run.source.trust_remote_code:  # the recipe of a stranger decides nothing here
        run.__dict__["source"] = replace(run.source, trust_remote_code=trust_remote_code)
    with _without_load_reports():
        model = _load_model(run, cards[task], folder, torch.device(device)).eval()
    return Released(model, run.tokenizer, Predictor(run, cards[task], model))


def _choose(name: str, task: str | None, tasks: list[str], manifest: Mapping[str, Any] | None) -> str:
    if manifest is not None and manifest["task"] is not None:
        tasks = [manifest["task"]]
    if task is None and len(tasks) > 1:
        raise InputError(f"{name} has several tasks; choose one with task=…: {', '.join(tasks)}")
    if task is not None and task not in tasks:
        raise InputError(f"{name}: {unknown_name('task', task, tasks)}")
    return task or tasks[0]


def _download(repo: str, task: str | None, revision: str | None, token: str | bool | None) -> Path:
    """The release in the Hub's local cache, without the weights of tasks that are not asked for."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(repo, revision=revision, token=token, allow_patterns=[MANIFEST]))
        manifest = read_manifest(folder)
        if manifest is None:
            raise InputError(
                f"{repo}: is no release of hf_crosstask (it has no {MANIFEST}); load it with transformers or PEFT"
            )
        task = _choose(repo, task, list(manifest["tasks"]), manifest)
        others = [] if needs_all(manifest, task) else [each for each in manifest["tasks"] if each != task]
        ignored = [pattern for each in others for pattern in (f"adapters/{each}/*", f"heads/{each}.safetensors")]
        # The folder is named for its commit: both parts are of one state of the repository.
        return Path(snapshot_download(repo, revision=folder.name, token=token, ignore_patterns=ignored))
    except HFValidationError:
        raise InputError(f"{repo}: is neither a folder nor a Hub name (user/name)") from None
    except GatedRepoError:
        raise InputError(
            f"{repo}: access is gated; ask for it on its page, then log in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{repo}: no such folder, and no such repository on the Hub, or a private one that your token cannot read "
            "(`hf auth login`, or HF_TOKEN)"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{repo}: has no revision {revision!r}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise InputError(f"{repo}: cannot be downloaded: {str(error).strip().splitlines()[0]}") from error


def _load_model(run: FinishedRun, card: TaskCard, folder: Path, device: torch.device) -> MultiTaskModel:
    """The backbone with the task's adapter in place, not merged: what the run computed, to the bit."""
    for place in (folder, folder / "adapters" / card.name):
        if (place / HIERARCHY).is_file():
            return load_fed_task(place, run.source.name_or_path).to(device)
    config = run.config
    kind, layout = kind_of(card, config)
    dtype = DTYPES[run.result.model.get("precision", "fp32")]
    whole, adapter = folder / "model", _adapter(run, card, folder)
    if adapter is None and (folder / "adapters").is_dir():  # several adapters that no plain one can stand for
        return load_run(folder, base_model=run.source.name_or_path, device=str(device)).model
    if adapter is None and not whole.is_dir():
        raise InputError(f"{folder}: has no weights of task {card.name} (neither an adapter nor model/)")
    if adapter is None:
        factory = CLASSES["language"] if kind == "language" else CLASSES["body"]
        model = load_backbone(Source(str(whole)), config, torch.float32, factory)
        return _assemble(model, card, kind, None, load_head(folder, card, config)).to(device)
    if layout is not None:
        config.num_labels = 1 if card.type in ("similarity", "ranking", "multiple_choice") else _outputs(card, config)
    quantized = run.result.model.get("quantization") == "nf4"
    model = load_backbone(run.source, config, dtype, CLASSES[kind], quantized_on=device if quantized else None)
    assembled = _assemble(model, card, kind, adapter, _head(card, config, layout, adapter, folder), layout)
    if quantized:  # a 4-bit backbone stays where it was loaded
        assembled.heads.to(device)
        return assembled
    return assembled.to(device)


def _outputs(card: TaskCard, config: Any) -> int:
    return len(build_head(card, config).state_dict()["output.weight"])


def _adapter(run: FinishedRun, card: TaskCard, folder: Path) -> Path | None:
    """The folder of the one adapter that the task uses; None where there is no such."""
    for place in (folder, folder / "adapters" / card.name):
        if (place / "adapter_config.json").is_file():
            return place
    shared = folder / "adapters" / "shared"
    alone = run.recipe.strategy.layout in ("S1", "S1_token_controlled", "S2", "A1")
    return shared if alone and (shared / "adapter_config.json").is_file() else None


def _head(card: TaskCard, config: Any, layout: HeadLayout | None, adapter: Path, folder: Path) -> torch.nn.Module:
    """The task's head: out of its plain adapter where it is there, else from `heads/`."""
    from safetensors.torch import load_file

    if layout is None:
        return load_head(folder, card, config)
    head = build_head(card, config, dropout=0.0)
    state = load_file(adapter / "adapter_model.safetensors")
    places = {"output": layout.output, **({"dense": layout.dense} if layout.dense is not None else {})}
    try:
        head.load_state_dict(
            {
                name: state[f"{_ROOT}{places[name.partition('.')[0]]}.{name.partition('.')[2]}"]
                for name in head.state_dict()
            }
        )
    except KeyError as error:
        raise InputError(f"{adapter}: lacks the weights {error} of the head of task {card.name}") from None
    return head.eval()


def _assemble(
    model: Any, card: TaskCard, kind: str, adapter: Path | None, head: Any, layout: HeadLayout | None = None
) -> MultiTaskModel:
    """Put the adapter into the model, and the library's own computation around its body."""
    from peft import PeftConfig, PeftModel

    body = model.base_model if kind == "language" or layout is not None else model
    take_pooler(body)  # no head of the library reads it
    if adapter is not None:
        config = PeftConfig.from_pretrained(str(adapter))
        kept = config.modules_to_save or []
        config.modules_to_save = [name for name in kept if layout is None or name not in layout.modules] or None
        PeftModel.from_pretrained(model, str(adapter), config=config)  # puts its layers into the body
    return MultiTaskModel(body, {card.name: head}, model if kind == "language" else None)


@dataclass(frozen=True, eq=False)
class Predictor:
    """From texts to predictions, as the run made them: same encoding, windows, batches and decoding.

    Call it with one input or a list: a text, or an object with the schema's fields (`text`, `text_pair`, `choices`, for
    relations `entities` with `id`, `type` and `offsets`, and `head` and `tail`, their ids).
    """

    run: FinishedRun
    card: TaskCard
    model: MultiTaskModel

    def __call__(self, inputs: Input | Sequence[Input]) -> Any:
        """One prediction an input, as plain objects.

        - entities: a list of `{"type", "offsets", "text", "confidence"}`;
        - label sets: a list of `{"label", "confidence"}`;
        - a score: `{"score"}`; a generated answer: `{"label" or "text", "answer"}`;
        - others: `{"label", "confidence"}`.

        Raises:
            InputError: an input lacks what the task needs.
        """
        single = isinstance(inputs, (str, Mapping))
        given: Sequence[Any] = [inputs] if single else list(inputs)
        rows = [_example(each, self.card, number) for number, each in enumerate(given)]
        if not rows:
            return []
        check_examples(rows, self.card.type, self.card.labels, source=f"inputs of {self.card.name}")
        predictions = self.predict(to_dataset(rows))
        shown = [_shown(predictions, number, rows[number]["text"]) for number in range(len(rows))]
        return shown[0] if single else shown

    @torch.no_grad()
    def predict(self, examples: datasets.Dataset) -> Predictions:
        """Predictions for examples of the unified schema, in order (see `evaluation.predictions`)."""
        run, settings = self.run, self.run.recipe.model
        with _quiet():
            encoded = encode_task(
                examples,
                self.card,
                run.tokenizer,
                max_length=settings.max_length,
                stride=settings.stride,
                causal=is_causal(run.config),
                long_inputs=settings.long_inputs,
            )
        # An official scorer compares more than a prediction holds, and wants training data for it.
        scorer = build_scorer(self.card.model_copy(update={"official": None}), examples, encoded.dataset, {})
        threshold = (run.result.tasks[self.card.name].metrics.model_extra or {}).get("threshold")
        if threshold is not None:
            scorer = scorer.with_threshold(threshold)
        with self._autocast():
            logits = outputs(encoded, self.model, run.tokenizer, limit=run.batch_tokens)
            if self.card.formulation != "generative":
                return scorer.decode(logits)
            answers = generate(
                self.model.language_model,
                run.tokenizer,
                encoded.dataset.with_format(None)["prompt_ids"][:],
                max_new_tokens=answer_room(self.card, run.tokenizer, settings.max_length),
                limit=run.batch_tokens,
            )
        return scorer.read(answers, logits)

    def _autocast(self) -> Any:
        """The run's mixed precision, where the device has it."""
        dtype = DTYPES[self.run.result.model.get("precision", "fp32")]
        device = next(self.model.parameters()).device.type
        if dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(device, dtype=dtype)


def _example(source: Input, card: TaskCard, number: int) -> dict[str, Any]:
    """An input as an example of the schema; what only training needs (labels, scores) is filled in."""
    fields: dict[str, Any] = {"text": source} if isinstance(source, str) else dict(source)
    name = str(fields.pop("id", number))
    text = fields.pop("text", "")
    head, tail = fields.pop("head", None), fields.pop("tail", None)
    entities = [_entity(entity, text, place) for place, entity in enumerate(fields.pop("entities", []))]
    filled: dict[str, Any] = {"entities": entities}
    if card.type == "relation":
        given: list[Mapping[str, Any]] = list(fields.get("relations") or [{}])
        head, tail = head or given[0].get("head"), tail or given[0].get("tail")
        if head is None or tail is None:
            raise InputError(
                f"input {name}: a relation needs `entities`, and `head` and `tail`, the ids of two of them"
            )
        label = card.negative_label or card.labels[0]
        filled["relations"] = [{"id": "0", "type": label, "head": str(head), "tail": str(tail)}]
    elif card.type == "classification":
        filled["labels"] = [card.labels[0]]
    elif card.type in ("similarity", "ranking"):
        filled["score"] = card.score_range[0]
        if card.type == "ranking":
            filled |= {"labels": ["false"], "group_id": str(fields.get("group_id") or name), "rank": number}
    elif card.type == "multiple_choice":
        filled["answer"] = next(iter(fields.get("choices") or []), None)
    elif card.type == "generation":
        filled["answer"] = fields.get("answer") or "-"
    group = str(fields.pop("split_group", name))
    known = {key: value for key, value in fields.items() if key in ("text_pair", "choices")}
    unknown = fields.keys() - known.keys() - set(make_example("", "", "", split_group="")) - {"task"}
    if unknown:
        raise InputError(f"input {name}: unknown fields {', '.join(sorted(unknown))}")
    return make_example(name, card.name, text, split_group=group, **known, **filled)


def _entity(entity: Mapping[str, Any], text: str, place: int) -> dict[str, Any]:
    offsets = [list(pair) for pair in entity.get("offsets", [])]
    return {
        "id": str(entity.get("id", place)),
        "type": str(entity.get("type", "")),
        "offsets": offsets,
        "text": [text[start:end] for start, end in offsets],
        "normalized": [],
        "attributes": [],
    }


def _shown(predictions: Predictions, number: int, text: str) -> Any:
    """One row of predictions as plain objects."""
    predicted, confidence = predictions.predicted[number], predictions.confidence[number]
    kind = predictions.target.type
    if kind in ENTITY_TYPES:
        return [
            {
                "type": entity.type,
                "offsets": [list(pair) for pair in entity.offsets],
                "text": [text[start:end] for start, end in entity.offsets],
                "confidence": sure,
            }
            for entity, sure in zip(predicted or (), confidence or (), strict=True)
        ]
    if kind in SET_TYPES:
        return [
            {"label": label, "confidence": sure} for label, sure in zip(predicted or (), confidence or (), strict=True)
        ]
    if kind == "similarity":
        return {"score": predicted}
    shown = {"text" if kind == "generation" else "label": predicted, "confidence": confidence}
    if predictions.answers is not None:
        shown["answer"] = predictions.answers[number].text
    return shown


@contextlib.contextmanager
def _without_load_reports() -> Iterator[None]:
    """transformers reports every head that a base model does not hold; here they come from the adapter."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no cache files for a handful of inputs."""
    caching, bars = datasets.is_caching_enabled(), datasets.is_progress_bar_enabled()
    datasets.disable_caching()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if caching:
            datasets.enable_caching()
        if bars:
            datasets.enable_progress_bars()
