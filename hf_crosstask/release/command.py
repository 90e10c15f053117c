"""The verbs `release` and `card`, and the release at the end of `train`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hf_crosstask.atomic import write_text
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.analysis import read_analysis
from hf_crosstask.release.bundle import Bundle, Run, collect, open_run
from hf_crosstask.release.card import CardOptions, licence_text, recipe_card, run_card
from hf_crosstask.release.card_tables import ANALYSES, KINDS
from hf_crosstask.release.push import Hub, PushError, Visibility
from hf_crosstask.release.terms import restricted

if TYPE_CHECKING:
    from hf_crosstask.recipe import Recipe

#: Beside a released card, what it was rendered from.
_RECORDS = ("result.json", "recipe.json", "plan.json", "release.json")


@dataclass(frozen=True)
class Request:
    """What to release, and where to; the section `release` of a recipe, or the options of a command line."""

    repo: str
    private: bool | None = None
    revision: str | None = None
    task: str | None = None
    base_model: str | None = None
    collection: str | None = None
    options: CardOptions = field(default_factory=CardOptions)

    @classmethod
    def of(cls, recipe: Recipe) -> Request | None:
        """What a recipe asks for; None where it asks for nothing."""
        section = recipe.release
        if section is None:
            return None
        return cls(
            section.repo,
            section.private,
            section.revision,
            section.task,
            section.base_model,
            section.collection,
            CardOptions(section.licence, section.language),
        )


def prepare(run_dir: Path, request: Request) -> tuple[Run, Bundle]:
    """A run's bundle: its files, with the cards that go with them, checked to hold no secret.

    Raises:
        InputError: the run cannot be released.
    """
    run = open_run(run_dir, request.task, request.base_model)
    cards = {"README.md": str(run_card(run, request.repo, request.options))}
    if request.task is None and len(run.cards) > 1:
        for task in run.cards:
            if run.adapter(task) is not None:
                one = Run(run.folder, run.recipe, run.result, run.cards, task, run.base_model, within=True)
                cards[f"adapters/{task}/README.md"] = str(run_card(one, request.repo, request.options))
    bundle = collect(run, cards, licence=licence_text(run.cards, run.base))
    bundle.refuse_secrets()
    return run, bundle


def release(run_dir: Path, request: Request, *, dry_run: bool = False, hub: Hub | None = None) -> int:
    """Push a finished run to the Hub, and print what was done.

    Args:
        run_dir: the run folder.
        request: what to release, and where to.
        dry_run: print what would be pushed, and stop; nothing is sent.
        hub: the Hub; None: the usual one.

    Returns:
        0; 1 where the Hub kept failing.

    Raises:
        InputError: the run, the token or the repository is not right.
    """
    run, bundle = prepare(run_dir, request)
    visibility = Visibility(request.private, restricted(run.cards.values()))
    if dry_run:
        _print_bundle(run, bundle, request, visibility)
        return 0
    if visibility.reasons and request.private is False:
        print(f"warning: public, though {_reasons(visibility)}; their terms are yours to keep", file=sys.stderr)
    message = f"Release {run.result.experiment_id}" + (f", task {request.task}" if request.task else "")
    try:
        pushed = (hub or Hub()).push(
            bundle,
            request.repo,
            visibility=visibility,
            message=message,
            revision=request.revision,
            collection=request.collection,
        )
    except PushError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    done = "released to" if pushed.changed else "nothing to do: the same release is at"
    print(f"{done} {pushed.url} ({'private' if pushed.private else 'public'}), commit {pushed.commit}")
    if pushed.collection:
        print(f"in the collection {pushed.collection}")
    return 0


def check_login(recipe: Recipe) -> None:
    """Before a training whose end is a release: is somebody logged in? Days of training should not end in a bad token.

    Raises:
        InputError: nobody is, or the token is not valid.
    """
    if recipe.release is not None:
        try:
            Hub().user()
        except PushError as error:
            raise InputError(f"release: {error}") from None


def write_card(source: Path, request: Request, output: Path | None) -> int:
    """Print or write the card of a run folder, or of a recipe that has not been trained for release."""
    if source.is_dir():
        text = str(run_card(open_run(source, request.task, request.base_model), request.repo, request.options))
    else:
        text = _recipe_text(source, request.repo, request.options)
    if output is None:
        print(text)
    else:
        write_text(output, text)
    return 0


def rebuild_cards(folder: Path, recipes: Path, owner: str) -> list[Path]:
    """Render the card of every runnable recipe anew.

    Args:
        folder: `<recipe>/README.md` for each; where the recipe has been trained, with the records of the run beside it.
        recipes: the folder of recipes.
        owner: who releases them.

    Returns:
        The cards written.
    """
    written = []
    for recipe in sorted(recipes.glob("*.json")):
        if recipe.name.endswith(".schema.json"):
            continue
        written.append(write_text(folder / recipe.stem / "README.md", shipped_card(folder, recipe, owner)))
    return written


def shipped_card(folder: Path, recipe: Path, owner: str) -> str:
    """The card of one recipe of this project, from the records in `folder/<recipe>/` where there are any."""
    records, repo = folder / recipe.stem, f"{owner}/{recipe.stem}"
    if (records / "result.json").is_file():
        return str(run_card(open_run(records), repo))
    return _recipe_text(recipe, repo, CardOptions())


def keep_records(run_dir: Path, folder: Path) -> None:
    """Keep the records of a run that its card is rendered from (no weights): `folder/<recipe>/`.

    Analyses of the run that was kept there before go.
    """
    run = open_run(run_dir)
    bundle = collect(run, {}, licence=licence_text(run.cards, run.base))
    for name in _RECORDS:
        content = bundle.files.get(name)
        if isinstance(content, bytes):
            write_text(folder / run.recipe.name / name, content.decode())
    kept = folder / run.recipe.name / ANALYSES
    # All are read before any goes: the run may be the one that is kept there.
    analyses = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((run_dir / ANALYSES).glob("*.json"))
        if read_analysis(path).kind in KINDS
    }
    for path in kept.glob("*.json"):
        path.unlink()
    for name, text in analyses.items():
        write_text(kept / name, text)


def _recipe_text(path: Path, repo: str, options: CardOptions) -> str:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.tasks.registry import resolve_card

    recipe = load_recipe(path)
    return str(recipe_card(recipe, {spec.name: resolve_card(spec) for spec in recipe.tasks}, repo, options))


def _reasons(visibility: Visibility) -> str:
    return "; ".join(f"{task} is {', '.join(reasons)}" for task, reasons in visibility.reasons.items())


def _print_bundle(run: Run, bundle: Bundle, request: Request, visibility: Visibility) -> None:
    why = f" ({_reasons(visibility)})" if visibility.private is None and visibility.reasons else ""
    print(f"{run.result.experiment_id} to {request.repo}: {'private' if visibility.wanted else 'public'}{why}")
    for path in bundle.files:
        print(f"  {bundle.size(path):>13,}  {path}")
    print(f"  {sum(map(bundle.size, bundle.files)):>13,}  bytes in {len(bundle.files)} files, one commit")
    for path, reason in bundle.left_out.items():
        print(f"left out: {path} ({reason})")
    print("nothing was sent")
