"""Errors a user can act on. Each message is one clear sentence or list: what is wrong, where, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path


class CrosstaskError(Exception):
    """Base of every error the library raises on purpose (command lines exit with code 1)."""


class InputError(CrosstaskError):
    """The user's input is wrong; command lines print the message without a traceback and exit with code 2."""


class DataFormatError(InputError):
    """A data file breaks its format.

    Args:
        path: the file (or dataset name) that is wrong.
        problem: what was found and what was expected.
        line: 1-based line number, where the format has lines.
        remedy: what the user can do about it.
    """

    def __init__(self, path: str | Path, problem: str, *, line: int | None = None, remedy: str | None = None):
        self.path, self.problem, self.line, self.remedy = str(path), problem, line, remedy
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {problem}" + (f" {remedy}" if remedy else ""))


class RecipeError(InputError):
    """One or more keys of a recipe are wrong; all of them are reported at once.

    Args:
        source: the recipe file.
        problems: `(dotted key path, what is wrong)` pairs.
    """

    def __init__(self, source: str | Path, problems: Sequence[tuple[str, str]]):
        self.source, self.problems = str(source), list(problems)
        lines = [f"  {key}: {problem}" if key else f"  {problem}" for key, problem in self.problems]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        super().__init__(f"{source}: {count}\n" + "\n".join(lines))


class PlanError(InputError):
    """The requested budget, mixing or step size cannot be planned."""


class MatchError(InputError):
    """The run a budget should match cannot serve as a reference."""


class CheckpointError(InputError):
    """A checkpoint is incomplete, damaged, or belongs to another plan."""


class Interrupted(CrosstaskError):
    """A run stopped early on purpose (time limit, SIGTERM) and can be resumed; command lines exit with code 3."""


class LedgerMismatchError(CrosstaskError):
    """The tokens counted in training differ from the plan: the run's token accounting cannot be trusted."""


def closest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name most similar to `name`, or None where nothing is similar."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """A message for an unknown name: the closest valid one, else all of them."""
    names = sorted(valid)
    guess = closest(name, names)
    hint = f"did you mean {guess!r}?" if guess else f"valid: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"
