"""Budgets taken from a finished run: the reference of a token-controlled baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hf_crosstask.errors import InputError, MatchError, unknown_name
from hf_crosstask.evaluation.result import RunResult, read_result

MatchMode = Literal["total_tokens"]


@dataclass(frozen=True)
class Reference:
    """A finished run and what of it is to be matched.

    Attributes:
        path: as the user named it.
        mode: what is matched.
        tokens: forward tokens to train on.
        result: the reference's whole result.
    """

    path: str
    mode: MatchMode
    tokens: int
    result: RunResult


def read_reference(path: str | Path, mode: str = "total_tokens") -> Reference:
    """The run to match.

    Args:
        path: a run directory or its `result.json`.
        mode: `total_tokens`: as many forward tokens as all the reference's tasks together.

    Raises:
        MatchError: there is no finished run there, or its plan and its ledger disagree.
    """
    if mode not in get_args(MatchMode):
        raise MatchError(unknown_name("match mode", mode, get_args(MatchMode)))
    try:
        result = read_result(path)
    except InputError as error:
        raise MatchError(f"cannot match {path}, which is no finished run: {error}") from error
    for name, tokens in [("the run", result.tokens), *((task, each.tokens) for task, each in result.tasks.items())]:
        if tokens.planned != tokens.counted:
            raise MatchError(
                f"cannot match {path}: {name} was planned with {tokens.planned} tokens but counted {tokens.counted}; its "
                "token account cannot be trusted. Run it again."
            )
    return Reference(str(path), "total_tokens", result.tokens.counted, result)
