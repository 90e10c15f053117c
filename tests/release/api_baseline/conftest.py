"""A tiny language model behind a real OpenAI-compatible server, and a recipe to ask it about."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the server beside the tests

KEY = "sk-planted-secret-0123456789"


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A tiny Llama and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_crosstask.models.tiny import build_tiny

    texts = ["Choose the label that fits the text. Labels: yes, no. Answer with one label only.", "none yes no Text:"]
    folder = build_tiny("tiny:llama", texts, tmp_path_factory.mktemp("api-model"))
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def server(language_model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server, and the environment that names it."""
    import torch
    from openai_server import OpenAIServer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    running = OpenAIServer(*language_model)
    monkeypatch.setenv("OPENAI_BASE_URL", running.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield running
    running.close()
    torch.set_num_threads(threads)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """A recipe of small tasks on invented text."""

    def write(*tasks: dict[str, Any]) -> Path:
        sizes = {"train": 24, "validation": 4, "test": 6}
        named = tasks or ({"name": "synthetic_classification"}, {"name": "synthetic_ner"})
        content = {
            "name": "asked",
            "tasks": [task if "reader" in task else task | {"options": sizes} for task in named],
            "model": {"name_or_path": "tiny:llama", "adapter": {"r": 4}},
            "strategy": {"name": "S1" if len(named) == 1 else "S2"},
            "budget": {"steps": 1},
            "evaluation": {"bootstrap_replicates": 100},
        }
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write
