"""Fixtures of the release tests: one small trained run, and a Hub on this machine that the client in this process uses."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests

from released_tasks import TASKS

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
_SIZES = {"train": 60, "validation": 12, "test": 30}
_SMALL = [
    f"tasks={json.dumps([{'name': task, 'options': _SIZES} for task in TASKS])}",
    'model.adapter={"r": 4, "dropout": 0.0, "train_embeddings": true}',
    "budget.epochs=3",
    "training.tokens_per_step=512",
    "training.save_steps=8",
    "training.disable_tqdm=true",
    "evaluation.bootstrap_replicates=100",
]


@pytest.fixture(scope="session")
def released_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three synthetic tasks. Tests copy it before they change it."""
    import datasets
    import torch

    from hf_crosstask import cli

    folder = tmp_path_factory.mktemp("release")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        assert cli.main(["train", str(RECIPES / "quickstart.json"), f"output_dir={folder / 'run'}", *_SMALL]) == 0
    torch.set_num_threads(threads)
    return folder / "run"


class _Clock:
    """The module `time`, for a client whose waits take none."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A local Hub; `huggingface_hub` in this process goes there, with a valid token and no pauses."""
    import huggingface_hub.utils._http
    from huggingface_hub import constants
    from local_hub import TOKEN, Hub

    running = Hub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", running.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(huggingface_hub.utils._http, "time", _Clock())
    yield running
    running.close()
