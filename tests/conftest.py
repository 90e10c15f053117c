"""Shared fixtures: the real corpora where they are present, and an environment without network."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How fast a machine is, or what else runs on it, decides no test.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect() -> Iterator[None]:
    """accelerate collects garbage in every `train()`; what was imported by now need not be looked at each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora; skips where this machine has none."""
    folder = Path(os.environ.get("CROSSTASK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real corpora at {folder} (set CROSSTASK_DATA to test on them)")
    return folder
