"""The Kaggle notebook from its first cell to its last, on a tiny model, with a Hub on this machine."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.evaluation.result import read_result

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "launch" / "kaggle_s2.ipynb"
_SIZES = {"train": 60, "validation": 8, "test": 20}
_OVERRIDES = [
    f"tasks={json.dumps([{'name': f'synthetic_{task}', 'options': _SIZES} for task in ('ner', 'classification')])}",
    'model.adapter={"r": 4}',
    "budget.epochs=2",
    "training.tokens_per_step=512",
    "training.disable_tqdm=true",
    "evaluation.bootstrap_replicates=100",
]


def _local_hub() -> Any:
    """The Hub of the release tests."""
    spec = importlib.util.spec_from_file_location("local_hub_of_releases", ROOT / "tests" / "release" / "local_hub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _environment(monkeypatch: pytest.MonkeyPatch, folder: Path, **more: str) -> None:
    values = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "hf"),
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "CROSSTASK_CHECKOUT": str(ROOT),
        "CROSSTASK_RECIPE": "quickstart.json",
        "CROSSTASK_OVERRIDES": json.dumps(_OVERRIDES),
        "CROSSTASK_RUN": str(folder / "run"),
        "CROSSTASK_PREVIOUS": str(folder / "previous"),
        "CROSSTASK_INSTALL": "--no-index hf_crosstask",  # installed already, with all it needs: pip checks that
        "CROSSTASK_LEG_MINUTES": "[0.0001, 10]",
    }
    for name, value in (values | more).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def _execute(folder: Path) -> str:
    """Run the notebook; all it printed."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_the_notebook_trains_in_legs_and_pushes_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    local_hub = _local_hub()
    hub = local_hub.Hub()
    try:
        _environment(
            monkeypatch,
            tmp_path,
            HF_ENDPOINT=hub.url,
            HF_TOKEN=local_hub.TOKEN,
            CROSSTASK_REPO="me/s2",
            HF_HUB_OFFLINE="0",
        )
        printed = _execute(tmp_path)
        assert "legs ended with [3, 0] - finished" in printed  # stopped by its time limit, then resumed to the end
        assert "resuming from" in printed
        result = read_result(tmp_path / "run")
        assert result.strategy == "S2"
        assert result.tokens.planned == result.tokens.counted
        names = set(hub.files("me/s2"))
        assert "README.md" in names
        assert any(name.endswith("adapter_model.safetensors") for name in names)
        assert local_hub.TOKEN not in printed
    finally:
        hub.close()


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    for cell in code:
        compile("".join(cell["source"]), "cell", "exec")
