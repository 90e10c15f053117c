"""The environment record: versions, one line of hardware, and a commit only of this library's own checkout."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from hf_crosstask.evaluation import environment as module
from hf_crosstask.evaluation.environment import environment, git_commit


def test_environment() -> None:
    found = environment(processes=2)
    assert found.processes == 2
    assert found.versions["torch"] == metadata.version("torch")
    assert {"python", "hf_crosstask", "transformers", "peft", "numpy"} <= found.versions.keys()
    assert "cores" in found.hardware
    assert "\n" not in found.hardware


def test_absent_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STACK", ("torch", "no-such-distribution"))
    assert set(module.versions()) == {"python", "hf_crosstask", "torch"}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None  # no repository
    git(tmp_path, "init", "-q")
    file = tmp_path / "environment.py"
    file.write_text("one")
    assert git_commit(tmp_path) is None  # a repository, but not of this file
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "-a", "v1", "-m", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == head
    file.write_text("two")
    assert git_commit(tmp_path) == f"{head}-dirty"


def test_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None
