"""Exports of trained runs: plain files, loaded by transformers alone, and scored again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hf_crosstask import cli
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.release.export import FILE_NAME, ExportResult, compare
from hf_crosstask.release.finished import open_run

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
_SIZES = {"train": 60, "validation": 8, "test": 30}
_TASKS = [
    {"name": "synthetic_ner", "options": _SIZES},
    {"name": "synthetic_classification", "formulation": "generative", "max_new_tokens": 6, "options": _SIZES},
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def decoder_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A finished run of a tiny decoder; made once."""
    import datasets

    folder = tmp_path_factory.mktemp("decoders")

    def make(family: str) -> Path:
        if not (folder / family).exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
                overrides = [
                    f"output_dir={folder / family}",
                    f"model.name_or_path=tiny:{family}",
                    f"tasks={json.dumps(_TASKS)}",
                    "model.max_length=160",
                    "budget.epochs=2",
                    "training.disable_tqdm=true",
                    "evaluation.bootstrap_replicates=100",
                ]
                assert cli.main(["train", str(RECIPES / "quickstart.json"), *overrides]) == 0
        return folder / family

    return make


def export(run: Path, task: str, kind: str, output: Path, *more: str) -> ExportResult:
    assert cli.main(["export", str(run), "--task", task, "--format", kind, "--output", str(output), *more]) == 0
    return ExportResult.model_validate_json((output / FILE_NAME).read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", ["synthetic_ner", "synthetic_classification", "synthetic_relation"])
def test_a_merged_encoder_scores_what_the_run_recorded(task: str, released_run: Path, tmp_path: Path) -> None:
    result = export(released_run, task, "merged", tmp_path / "out")
    assert result.score is not None
    assert result.score.after.value == pytest.approx(result.score.recorded.value)
    assert not result.score.moved
    assert (tmp_path / "out" / "heads").exists() == (task == "synthetic_relation")
    assert "peft" not in (tmp_path / "out" / "config.json").read_text()


def test_merged_files_are_the_plain_peft_adapter_merged(released_run: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForTokenClassification
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    export(released_run, "synthetic_ner", "merged", tmp_path / "out", "--no-score")
    merged = AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    labels = json.loads((released_run / "adapters" / "synthetic_ner" / "labels.json").read_text())
    assert [merged.config.id2label[number] for number in range(len(labels))] == labels
    adapter = AutoPeftModelForTokenClassification.from_pretrained(
        released_run / "adapters" / "synthetic_ner", num_labels=len(labels)
    ).eval()
    ids = torch.tensor([[2, 17, 25, 31, 3]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapter(ids).logits, rtol=1e-4, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert isinstance(pipeline("token-classification", model=merged, tokenizer=tokenizer)("aspirin"), list)


@pytest.mark.parametrize("family", ["llama", "phi3"])
@pytest.mark.parametrize("kind", ["gptq", "awq"])
def test_quantized_decoders_load_in_transformers_and_are_scored_again(
    family: str, kind: str, decoder_run: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("compressed_tensors")
    run = decoder_run(family)
    for task, loads_with in (
        ("synthetic_ner", "AutoModelForTokenClassification"),
        ("synthetic_classification", "AutoModelForCausalLM"),
    ):
        output = tmp_path / task
        result = export(run, task, kind, output, "--calibration-texts", "16")
        assert result.loads_with == f"transformers.{loads_with}"
        assert result.calibration is not None
        assert (result.calibration.texts, result.calibration.split) == (16, "train")
        score = result.score
        assert score is not None
        assert score.before.value == pytest.approx(score.recorded.value)
        assert score.before.low is not None
        assert score.moved == (not score.before.low <= score.after.value <= (score.before.high or 0))
        names = set(load_file(output / "model.safetensors"))
        layers = 2 * (4 if family == "phi3" else 7)
        assert sum(name.endswith(".weight_packed") for name in names) == layers
        config = json.loads((output / "config.json").read_text())
        assert config["quantization_config"]["quant_method"] == "compressed-tensors"


def test_an_encoder_quantizes_by_gptq_and_not_by_awq(
    released_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("compressed_tensors")
    result = export(released_run, "synthetic_classification", "gptq", tmp_path / "out", "--calibration-texts", "8")
    assert result.score is not None
    assert result.loads_with.endswith("AutoModelForSequenceClassification")
    arguments = ["export", str(released_run), "--task", "synthetic_ner", "--format", "awq"]
    assert cli.main([*arguments, "--output", str(tmp_path / "awq")]) == 2
    assert "AWQ is made for decoders" in capsys.readouterr().err
    assert not (tmp_path / "awq").exists()


def test_an_onnx_encoder_gives_the_same_score(
    released_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    result = export(released_run, "synthetic_classification", "onnx", tmp_path / "out")
    assert result.score is not None
    assert result.score.after.value == pytest.approx(result.score.recorded.value)


def test_what_cannot_be_exported_is_said_before_any_work(
    released_run: Path, decoder_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: Any) -> str:
        assert cli.main(["export", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "choose one with --task: synthetic_ner" in refused(released_run, "--format", "merged")
    assert "did you mean 'synthetic_ner'" in refused(released_run, "--format", "merged", "--task", "synthetic_nr")
    assert "no such run folder" in refused(tmp_path / "nothing", "--format", "merged")
    decoder = decoder_run("llama")
    assert "ONNX export is for encoders" in refused(decoder, "--format", "onnx", "--task", "synthetic_ner")
    (tmp_path / "there").mkdir()
    there = ("--task", "synthetic_ner", "--output", tmp_path / "there")
    assert "exists already" in refused(released_run, "--format", "merged", *there)
    moved = tmp_path / "moved"
    shutil.copytree(released_run, moved)
    (moved / "heads" / "synthetic_ner.safetensors").unlink()
    assert "holds the head of task" in refused(moved, "--format", "merged", "--task", "synthetic_ner")
    assert not list(moved.rglob(".*.tmp"))


def test_a_run_is_opened_where_it_was_moved_to(released_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(released_run, moved)
    result = json.loads((moved / "result.json").read_text())
    result["model"]["loaded_from"] = str(tmp_path / "gone" / Path(result["model"]["loaded_from"]).name)
    (moved / "result.json").write_text(json.dumps(result))
    assert Path(open_run(moved).source.name_or_path).parent == moved / "base_model"


def test_a_score_moves_when_it_leaves_the_interval() -> None:
    recorded = {"f1": MetricValue(value=0.5, low=0.4, high=0.6)}
    for value, moved in ((0.41, False), (0.6, False), (0.39, True), (0.61, True)):
        assert compare("f1", "test", recorded, None, {"f1": MetricValue(value=value)}).moved == moved
    one_cluster = {"f1": MetricValue(value=0.5)}
    assert compare("f1", "test", one_cluster, None, {"f1": MetricValue(value=0.5)}).moved is False
    assert compare("f1", "test", one_cluster, None, {"f1": MetricValue(value=0.49)}).moved is True
    before = {"f1": MetricValue(value=0.3, low=0.2, high=0.35)}
    assert compare("f1", "test", recorded, before, {"f1": MetricValue(value=0.36)}).moved is True
