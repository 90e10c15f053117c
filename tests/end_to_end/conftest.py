"""Fixtures of the end-to-end tests: runs in this process, with their exit code and what they printed."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code, and all it printed."""

    code: int
    out: str
    err: str


Train = Callable[..., Done]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Train]:
    """`hf-crosstask train …` in this process, on one thread, in an empty working directory, with a cache of its own."""
    import datasets
    import torch
    import transformers  # noqa: F401  # now: its log handler keeps the stderr that it finds on import

    from hf_crosstask import cli

    cache, work = tmp_path / "cache", tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))  # of the processes that a test starts
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(*arguments: str | Path) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(["train", *map(str, arguments)])
        return Done(code, out.getvalue(), err.getvalue())

    yield run
    torch.set_num_threads(threads)
