"""From a study to its runs: one recipe each, in an order in which every run comes after the one that it is matched to.

A run's folder is named for its content: the recipe's fingerprint (in it, the name of the run that is matched) and the
fingerprints of the data. So a run that is done is found again, whatever else the study changed, and a changed run is
another folder. Two arms that come to the same run share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.errors import RecipeError
from hf_crosstask.recipe.load import compose_files
from hf_crosstask.recipe.merge import merge
from hf_crosstask.recipe.schema import Recipe
from hf_crosstask.study.load import check_recipe
from hf_crosstask.study.looks import unequal_looks
from hf_crosstask.study.schema import Arm, Study
from hf_crosstask.tasks.card import TaskSpec

RUNS = "runs"


@dataclass(frozen=True)
class Cell:
    """What a run is for: one place in the study's grid.

    Attributes:
        arm: the arm's name.
        model: the model's name; empty where the study has one.
        group: the tasks trained together by the multi-task arm it belongs to; of a single-task arm on its own budget
            the task alone.
        target: the task that the run is about; None for a multi-task run about all of its group.
        seed: the training seed.
        share: the other tasks' share of the tokens (dose-response); None where mixing decides.
        fraction: of the matched tokens (envelope).
    """

    arm: str
    model: str
    group: tuple[str, ...]
    target: str | None
    seed: int
    share: float | None = None
    fraction: float = 1.0

    @property
    def label(self) -> str:
        """How messages name it."""
        parts = [self.model] if self.model else []
        parts.append(self.arm if self.share is None else f"{self.arm} at {self.share:g}")
        if self.fraction != 1:
            parts[-1] += f" x {self.fraction:g}"
        parts.append(self.target or "+".join(self.group))
        if self.target and len(self.group) > 1:
            parts[-1] += f" of {'+'.join(self.group)}"
        return "/".join([*parts, f"seed {self.seed}"])


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        id: the name of its folder.
        cells: what it is for; several where arms come to the same run.
        recipe: its recipe, without an output folder of its own.
        reference: the id of the run it is matched to.
    """

    id: str
    cells: tuple[Cell, ...]
    recipe: Recipe
    reference: str | None

    @property
    def label(self) -> str:
        """How messages name it."""
        return self.cells[0].label

    def folder(self, output_dir: Path) -> Path:
        """Where it runs."""
        return output_dir / RUNS / self.id

    def located(self, output_dir: Path) -> dict[str, Any]:
        """The recipe as a file, with all its places in the study's folder."""
        value = self.recipe.resolved()
        value |= {"name": self.id, "output_dir": str(self.folder(output_dir))}
        value["base_model_dir"] = str(output_dir / "base_models")
        if self.reference is not None:
            value["budget"]["match"]["run"] = str(output_dir / RUNS / self.reference)
        return value


#: From a task to the fingerprint of its data.
DataFingerprint = Callable[[TaskSpec], str]


def study_tasks(study: Study) -> dict[str, TaskSpec]:
    """Every task of the study, those of placebos too, by name."""
    tasks = {spec.name: spec for spec in study.tasks}
    for arm in study.arms.values():
        tasks |= {spec.name: spec for spec in arm.auxiliary if spec.name not in tasks}
    return tasks


def expand(study: Study, base: Mapping[str, Any], source: Path, fingerprint: DataFingerprint) -> list[PlannedRun]:
    """All runs of a study, references first.

    Args:
        study: the study.
        base: the recipe that every run starts from.
        source: the study's file, which model files are looked for beside.
        fingerprint: of a task's data.

    Raises:
        RecipeError: everything that is wrong with any run's recipe, at once.
    """
    tasks = study_tasks(study)
    models = _models(study, source)
    prints = {name: fingerprint(spec) for name, spec in tasks.items()}
    runs: dict[str, PlannedRun] = {}
    of_cell: dict[Cell, str] = {}
    problems: dict[tuple[str, str], None] = {}
    for name in _ordered(study):
        for cell in _cells(study, name, tuple(models)):
            reference = _reference(study, cell)
            if reference is not None and reference not in of_cell:
                continue  # its recipe is wrong, which is reported already
            match = of_cell[reference] if reference else None
            value = _recipe(study, merge(base, models[cell.model]), cell, tasks, match)
            recipe, found = check_recipe(value, f"arms.{name}")
            problems |= dict.fromkeys(found)
            if recipe is None:
                continue
            if match is not None and _is_envelope(study, name):
                looks = unequal_looks(recipe, runs[match].recipe)
                problems |= dict.fromkeys((f"arms.{name}", text) for text in looks)
            id = _id(recipe, prints)
            known = runs.get(id)
            runs[id] = replace(known, cells=(*known.cells, cell)) if known else PlannedRun(id, (cell,), recipe, match)
            of_cell[cell] = id
    if problems:
        raise RecipeError(source, list(problems))
    return list(runs.values())


def _is_envelope(study: Study, arm: str) -> bool:
    match = study.arms[arm].match
    return match is not None and match.mode == "envelope"


def _models(study: Study, source: Path) -> dict[str, dict[str, Any]]:
    """Each model's part of a recipe."""
    if not study.models:
        return {"": {}}
    found: dict[str, dict[str, Any]] = {}
    for name, model in study.models.items():
        if isinstance(model, str):
            file = model if model.endswith(".json") else f"models/{model}.json"
            part: dict[str, Any] = {}
            for layer in compose_files(file, source):
                part = merge(part, layer.value)
            found[name] = {"model": part.get("model", {})}
        else:
            found[name] = {"model": model}
    return found


def _ordered(study: Study) -> list[str]:
    """Arms, each after the one that it is matched to.

    Raises:
        RecipeError: arms are matched to each other in a circle.
    """
    ordered: list[str] = []

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            raise RecipeError(study.name, [("arms", f"are matched in a circle: {circle}")])
        match = study.arms[name].match
        if match is not None:
            add(match.arm, (*above, name))
        if name not in ordered:
            ordered.append(name)

    for name in study.arms:
        add(name, ())
    return ordered


def groups(study: Study) -> list[tuple[str, ...]]:
    """The task sets that multi-task arms train."""
    names = [spec.name for spec in study.tasks]
    found: dict[tuple[str, ...], None] = {}
    for item in study.groups:
        if item == "all":
            found[tuple(names)] = None
        elif item == "pairs":
            found |= dict.fromkeys(itertools.combinations(names, 2))
        else:
            found[tuple(name for name in names if name in item)] = None
    return list(found)


def _per_target(arm: Arm, study: Study) -> bool:
    """Whether a multi-task arm has a run for every target task."""
    matched = study.arms[arm.match.arm] if arm.match else None
    return bool(arm.placebo or arm.shares or (matched and matched.single))


def _cells(study: Study, name: str, models: tuple[str, ...]) -> Iterator[Cell]:
    arm = study.arms[name]
    for model, seed in itertools.product(models, study.seeds):
        if arm.single and arm.match is None:
            for spec in study.tasks:
                yield Cell(name, model, (spec.name,), spec.name, seed)
            continue
        for group in groups(study):
            if arm.single or _per_target(arm, study):
                fractions = arm.match.tried if arm.match else (1.0,)
                for target, share, fraction in itertools.product(group, arm.shares or (None,), fractions):
                    yield Cell(name, model, group, target, seed, share, fraction)
            else:
                yield Cell(name, model, group, None, seed)


def _reference(study: Study, cell: Cell) -> Cell | None:
    """The cell whose run a cell's run is matched to."""
    match = study.arms[cell.arm].match
    if match is None:
        return None
    if study.arms[match.arm].single:
        assert cell.target is not None
        return Cell(match.arm, cell.model, (cell.target,), cell.target, cell.seed)
    return Cell(match.arm, cell.model, cell.group, None, cell.seed)


def _recipe(
    study: Study, base: dict[str, Any], cell: Cell, tasks: Mapping[str, TaskSpec], match: str | None
) -> dict[str, Any]:
    arm = study.arms[cell.arm]
    value = merge(base, arm.recipe)
    value.pop("release", None)
    if arm.single:
        trained = [str(cell.target)]
    elif arm.placebo == "out_of_domain":
        trained = [str(cell.target), *(spec.name for spec in arm.auxiliary)]
    else:
        trained = list(cell.group)
    dumped = {name: spec.model_dump(mode="json", exclude_none=True) for name, spec in tasks.items()}
    value |= {
        "name": cell.arm,
        "tasks": [dumped[name] for name in trained],
        "strategy": arm.strategy.model_dump(mode="json"),
        # Every run audits all tasks of the study, so that a task has the same training rows in every arm.
        "audit": {**(value.get("audit") or {}), "against": [dumped[name] for name in tasks if name not in trained]},
        "training": {**(value.get("training") or {}), "seed": cell.seed, "disable_tqdm": True},
        "data_dir": study.data_dir,
    }
    if len(trained) == 1:
        value["mixing"] = {}
    if arm.match is not None:
        mode = "total_tokens" if arm.match.mode == "envelope" else arm.match.mode
        value["budget"] = {"match": {"run": match, "mode": mode, "fraction": cell.fraction}}
        if arm.match.equal_parameters is not None:
            value["budget"]["match"]["equal_parameters"] = arm.match.equal_parameters
        if arm.match.mode == "envelope":
            value["evaluation"] = {**(value.get("evaluation") or {}), "score_validation": True}
    if arm.placebo in ("permuted_labels", "text"):
        value["placebos"] = {name: arm.placebo for name in trained if name != cell.target}
    if cell.share is not None:
        others = len(trained) - 1
        weights = {name: 1 - cell.share if name == cell.target else cell.share / others for name in trained}
        value["mixing"] = {"sampling": "explicit", "weights": weights, "unit": "tokens"}
    return value


def _id(recipe: Recipe, prints: Mapping[str, str]) -> str:
    """The folder's name: readable in front, and a digest of what decides the run's result."""
    audited = [*recipe.task_names, *(spec.name for spec in (recipe.audit.against if recipe.audit else ()))]
    digest = json_fingerprint([recipe.fingerprint(), {name: prints[name] for name in sorted(audited)}])[:12]
    tasks = "-".join(recipe.task_names) if len(recipe.tasks) <= 2 else f"{len(recipe.tasks)}tasks"
    return f"{recipe.strategy.name}-{tasks}-seed{recipe.training.seed}-{digest}"
