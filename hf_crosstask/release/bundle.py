"""What belongs in a release: the files of a run that others need, made fit to leave this machine.

A bundle keeps the layout of a run folder, so that whatever reads a run reads a release. It holds adapters (or the whole
model), heads, tokenizer, cards, `result.json`, `recipe.json`, `plan.json` and `release.json`; a base model that is no Hub
model goes along. Everything else of a run stays: checkpoints with optimizer states, pickles, predictions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from hf_crosstask._version import __version__
from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.evaluation.result import RunResult, read_result
from hf_crosstask.recipe import Recipe, load_recipe
from hf_crosstask.release.secret_scan import find_secrets, known_secrets
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.registry import resolve_card

MANIFEST = "release.json"
MANIFEST_VERSION = 1
HIERARCHY = "hierarchy.json"  # in the folder of a fed task, see `models.export_hierarchical`
#: Folders of a run that belong, and what of them does: configurations, weights as safetensors, tokenizer files.
FOLDERS = ("adapters", "heads", "model", "tokenizer")
#: Files that name the base model, and their key for it.
_NAME_BASE = {"adapter_config.json": "base_model_name_or_path", HIERARCHY: "base_model"}
_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja", ".md"})


@dataclass(frozen=True)
class Run:
    """A finished run as a release sees it. (Light: opening it imports no torch; `finished` opens one for computing.)

    Attributes:
        folder: the run folder, or a downloaded release.
        recipe: what fixed the run.
        result: what came of it.
        cards: the card of each task.
        task: the only task that is released; None: all.
        base_model: the base model's Hub id, where the run had it from a local folder.
        within: `task` is described as a part of a release of all tasks, not released by itself.
    """

    folder: Path
    recipe: Recipe
    result: RunResult
    cards: Mapping[str, TaskCard]
    task: str | None = None
    base_model: str | None = None
    within: bool = False

    @property
    def base(self) -> str:
        """The base model's name: the Hub id, or what the recipe calls it."""
        return self.base_model or self.recipe.model.name_or_path

    @property
    def released(self) -> dict[str, TaskCard]:
        """The tasks that are released."""
        return {name: card for name, card in self.cards.items() if self.task in (None, name)}

    @property
    def own_base_folder(self) -> Path | None:
        """The folder of a base model that is not on the Hub and goes along (a tiny one); None where the Hub has it."""
        loaded = self.result.model.get("loaded_from", self.recipe.model.name_or_path)
        inside = self.folder / "base_model" / Path(loaded).name
        if inside.is_dir() or loaded.startswith("base_model/"):
            return inside
        elsewhere = Path(loaded)  # runs of a study share one (`base_model_dir`)
        return elsewhere if self.recipe.model.name_or_path.startswith("tiny:") and elsewhere.is_dir() else None

    @property
    def own_base(self) -> str | None:
        """The path of that folder in a release."""
        return None if self.own_base_folder is None else f"base_model/{self.own_base_folder.name}"

    def adapter(self, task: str) -> str | None:
        """The folder of a task's plain PEFT adapter within the run; None where it has none."""
        return f"adapters/{task}" if self._holds(task, "adapter_config.json") else None

    def is_fed(self, task: str) -> bool:
        """Whether a task is of the second level of a hierarchy: two adapters and what is fed from one to the other."""
        return self._holds(task, HIERARCHY)

    def _holds(self, task: str, name: str) -> bool:
        manifest = read_manifest(self.folder)
        path = f"adapters/{task}/{name}"
        return (self.folder / path).is_file() or (manifest is not None and path in manifest["files"])


def open_run(folder: str | Path, task: str | None = None, base_model: str | None = None) -> Run:
    """Open a run folder for release.

    Args:
        folder: the run folder.
        task: the only task to release; None: all.
        base_model: the base model's Hub id, where the run had it from a local folder.

    Raises:
        InputError: there is no finished run in it, or it has no such task.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    result = read_result(folder)
    recipe = load_recipe(folder / "recipe.json")
    if recipe.text_tasks:
        raise InputError(
            f"{folder}: trained {', '.join(recipe.text_tasks)} on text alone (a placebo): it is a control, not a release"
        )
    if task is not None and task not in result.tasks:
        raise InputError(f"{folder}: {unknown_name('task', task, result.tasks)}")
    if not any((folder / name).exists() for name in ("adapters", "model", MANIFEST)):
        raise InputError(f"{folder} holds neither adapters/ nor model/: there is nothing to release")
    run = Run(folder, recipe, result, cards_of(folder, recipe), task, base_model)
    here = [path.relative_to(folder).as_posix() for path in _walk(folder / "adapters")]
    if task is not None and _needs_all(here, run.cards, task):
        raise InputError(f"{folder}: task {task} needs the adapters of all tasks; release the run without --task")
    if run.own_base is None and not is_hub_name(run.base):
        raise InputError(
            f"{folder}: its base model is the folder {run.base}, which nobody else has; name the Hub model that it is a "
            "copy of with --base-model"
        )
    return run


def is_hub_name(name: str) -> bool:
    """Whether a base model's name can be one of the Hub (`user/name`, or `name`)."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and name[0] != "." and not Path(name).is_dir()


def cards_of(folder: Path, recipe: Recipe) -> dict[str, TaskCard]:
    """The task cards: those that the release wrote down, else what the recipe's tasks resolve to."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return {name: TaskCard.model_validate(fields) for name, fields in manifest["tasks"].items()}
    return {spec.name: resolve_card(spec) for spec in recipe.tasks}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """`release.json` of a downloaded release; None for a run folder.

    Raises:
        InputError: it was written by a later version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("version") != MANIFEST_VERSION:
        raise InputError(
            f"{path}: version {manifest.get('version')!r} of the format; this version of hf_crosstask reads "
            f"{MANIFEST_VERSION} (written by hf_crosstask {manifest.get('hf_crosstask')})"
        )
    return manifest


def needs_all(manifest: Mapping[str, Any], task: str) -> bool:
    """Whether loading a task takes the adapters and heads of all (adapters that the input weighs have no plain form)."""
    return _needs_all(manifest["files"], manifest["tasks"], task)


def _needs_all(files: Iterable[str], tasks: Collection[str], task: str) -> bool:
    places = {tuple(path.split("/")[1:]) for path in files if path.startswith("adapters/")}
    if any((task, name) in places for name in _NAME_BASE):
        return False
    return bool({first for first, *_ in places} - {"shared", "README.md", *tasks})


@dataclass
class Bundle:
    """The files of a release.

    Attributes:
        files: path in the repository to the local file, or to the bytes that stand for it.
        left_out: files found beside them that do not belong, with the reason.
    """

    files: dict[str, Path | bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def size(self, path: str) -> int:
        """Bytes of a file."""
        content = self.files[path]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def refuse_secrets(self, *tokens: str | None) -> None:
        """Look into every file.

        Raises:
            InputError: one holds something like a token; the message names the file and never the secret.
        """
        known = known_secrets(*tokens)
        problems = [
            f"  {path}: {', '.join(kinds)}"
            for path, content in self.files.items()
            if (kinds := find_secrets(content, known))
        ]
        if problems:
            raise InputError(
                "nothing was pushed: a secret seems to be in what would be released. Remove it (and revoke it: it lay "
                "in a file), then release again:\n" + "\n".join(problems)
            )


def collect(run: Run, cards: Mapping[str, str], *, licence: str) -> Bundle:
    """The files of a release.

    Args:
        run: the run.
        cards: model cards by path in the repository (`README.md`, `adapters/<task>/README.md`).
        licence: the text of `LICENSE.md`.
    """
    bundle = Bundle()
    folders = {name: run.folder / name for name in FOLDERS}
    if run.own_base is not None and run.own_base_folder is not None:
        folders[run.own_base] = run.own_base_folder
    for name, folder in folders.items():
        for file in _walk(folder):
            _take(bundle, run, file, PurePosixPath(name, file.relative_to(folder).as_posix()))
    for name, value in _records(run).items():
        bundle.files[name] = _json(value)
    bundle.files["LICENSE.md"] = licence.encode()
    for path, text in cards.items():
        bundle.files[path] = text.encode()
    bundle.files[MANIFEST] = _json(_manifest(run, [*bundle.files, MANIFEST]))
    bundle.files = dict(sorted(bundle.files.items()))
    return bundle


def _take(bundle: Bundle, run: Run, file: Path, path: PurePosixPath) -> None:
    """Put one file of the run where it goes in the repository, if it belongs."""
    folder, *rest = path.parts
    if file.is_symlink():
        bundle.left_out[str(path)] = "a link"
    elif path.suffix not in _SUFFIXES or any(part.startswith(".") for part in path.parts):
        bundle.left_out[str(path)] = "no configuration, safetensors or tokenizer file"
    elif folder in ("adapters", "heads") and not _serves(run, folder, rest):
        bundle.left_out[str(path)] = f"not needed for {run.task}"
    elif path.name == "README.md":
        pass  # what the run wrote for itself; a release has cards in their place
    else:
        target = _target(run, folder, rest)
        bundle.files[target] = _portable(run, file) if path.name in _NAME_BASE else file


def _target(run: Run, folder: str, rest: Sequence[str]) -> str:
    """The only released task's adapter stands at the root, where PEFT looks for it."""
    if run.task is not None and folder == "adapters" and rest[0] == run.task:
        return "/".join(rest[1:])
    return "/".join([folder, *rest])


def _serves(run: Run, folder: str, rest: Sequence[str]) -> bool:
    """Whether a file of adapters or heads is needed for what is released."""
    if run.task is None:
        return True
    if folder == "heads":
        return rest == [f"{run.task}.safetensors"]
    if run.adapter(run.task) is not None or run.is_fed(run.task):
        return rest[0] == run.task
    return rest[0] not in run.cards  # what the tasks share


def _walk(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _portable(run: Run, file: Path) -> bytes:
    """A configuration that names the base model, without the paths of this machine."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config[_NAME_BASE[file.name]] = run.own_base or run.base
    return _json(config)


def _records(run: Run) -> dict[str, Any]:
    """The run's records without the paths of this machine."""
    recipe = run.recipe.resolved()
    recipe["data_dir"] = "data" if recipe["data_dir"] else None
    recipe["output_dir"] = f"outputs/{run.recipe.name}"
    recipe.pop("release", None)
    recipe["model"]["name_or_path"] = run.base
    result = run.result.model_dump(mode="json")
    result["model"] |= {"name_or_path": run.base, "loaded_from": run.base}
    if run.own_base is not None:
        result["model"]["loaded_from"] = run.own_base
    if result["match"] is not None:
        result["match"]["reference"] = _tail(result["match"]["reference"])
    if any(card.access == "credentialed" for card in run.cards.values()) and result["audit"] is not None:
        for pair in result["audit"].get("leaks", []):
            pair["leak"]["examples"] = []  # counts stay; ids of notes do not leave this machine
            for overlap in pair.get("overlaps", {}).values():
                overlap["examples"] = []
    if result.get("checksum") is not None:
        # Sealed anew: the run's own seal is over paths and predictions that stay behind.
        result["released_from"] = {"checksum": result.pop("checksum"), "files": result["files"]}
        result["files"] = {}
        result["checksum"] = json_fingerprint(result)
    plan = run.folder / "plan.json"
    records = {
        "recipe.json": recipe,
        "result.json": result,
    }
    if plan.is_file():
        records["plan.json"] = json.loads(plan.read_text(encoding="utf-8"))
    return records


def _manifest(run: Run, files: list[str]) -> dict[str, Any]:
    """What a release says of itself: `files` are what a later release into the same repository replaces."""
    return {
        "version": MANIFEST_VERSION,
        "hf_crosstask": __version__,
        "experiment_id": run.result.experiment_id,
        "task": run.task,
        "tasks": {name: card.model_dump(mode="json", exclude_defaults=True) for name, card in run.cards.items()},
        "files": sorted(files),
    }


def _tail(path: str) -> str:
    """An absolute path of this machine, reduced to its last two parts."""
    return "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else path


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
