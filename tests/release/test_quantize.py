"""4-bit quantization: the numbers, the files, and that it beats rounding to nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_crosstask.errors import CrosstaskError, InputError
from hf_crosstask.models.tiny import build_tiny
from hf_crosstask.release.awq import scale_layer
from hf_crosstask.release.calibration import calibrate, layers_of, texts_of
from hf_crosstask.release.gptq import gptq, round_to_nearest
from hf_crosstask.release.packed import Quantized, pack
from hf_crosstask.release.quantize import quantize

TEXTS = [
    f"the patient of bed {number} took {drug} for {number % 7} days and did not report any {finding} ."
    for number, (drug, finding) in enumerate(
        [(d, f) for d in ("aspirin", "codeine", "heparin", "insulin") for f in ("fever", "pain", "rash", "cough")]
    )
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """A tiny decoder whose norms let some channels through much more than others, and calibration rows."""
    folder = tmp_path_factory.mktemp("tiny")

    def make(family: str) -> tuple[Any, list[dict[str, list[int]]], Path]:
        path = build_tiny(f"tiny:{family}", TEXTS, folder)
        model = AutoModelForCausalLM.from_pretrained(path).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "layernorm" in name:
                    parameter[::17] += 8
                if "proj.weight" in name:
                    parameter.mul_(4)
        tokenizer = AutoTokenizer.from_pretrained(path)
        return model, [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS], path

    return make


@torch.no_grad()
def logits(model: Any, rows: list[dict[str, list[int]]]) -> torch.Tensor:
    return torch.cat([model(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in rows])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_packing_is_that_of_compressed_tensors(rows: int, words: int, seed: int) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    generator = torch.Generator().manual_seed(seed)
    integers = torch.randint(-8, 8, (rows, 8 * words), generator=generator, dtype=torch.int8)
    assert torch.equal(pack(integers), pack_to_int32(integers, 4))


def test_rounding_to_nearest_is_off_by_half_a_step_at_most_and_keeps_zeros() -> None:
    weight = torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    weight[2, :128] = 0
    quantized = round_to_nearest(weight, 128, torch.float32)
    step = quantized.scales.repeat_interleave(128, dim=1)
    assert ((quantized.dequantized() - weight).abs() <= step / 2 + 1e-6).all()
    assert torch.equal(quantized.dequantized()[2, :128], torch.zeros(128))


def test_gptq_leaves_less_output_error_than_rounding() -> None:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(64, 64, generator=generator)
    inputs = torch.randn(400, 64, generator=generator) @ mixing  # correlated, as real inputs are
    weight = torch.randn(32, 64, generator=generator)
    target = inputs @ weight.T

    def error(quantized: Quantized) -> float:
        return float((inputs @ quantized.dequantized().T - target).norm() / target.norm())

    hessian = inputs.T @ inputs
    assert error(gptq(weight, hessian, 32, torch.float32)) < 0.8 * error(round_to_nearest(weight, 32, torch.float32))
    unused = inputs.clone()
    unused[:, 5] = 0  # an input that never occurs
    assert torch.isfinite(gptq(weight, unused.T @ unused, 32, torch.float32).dequantized()).all()
    with pytest.raises(CrosstaskError, match="not finite"):
        gptq(weight, hessian * float("nan"), 32, torch.float32)


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_both_methods_beat_rounding_and_their_files_give_the_same_logits(family: str, tiny, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    errors = {}
    for method in ("rtn", "gptq", "awq"):
        model, rows, _ = tiny(family)
        before = logits(model, rows[12:])
        quantization = quantize(model, rows[:12], method=method)
        after = logits(model, rows[12:])
        errors[method] = float((after - before).norm() / before.norm())
        if method == "rtn":
            continue
        assert quantization.group_size == 128
        assert quantization.calibration_tokens == sum(len(row["input_ids"]) for row in rows[:12])
        quantization.save(model, tmp_path / method)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / method).eval()
        assert torch.equal(logits(loaded, rows[12:]), after)
    assert max(errors["gptq"], errors["awq"]) < errors["rtn"]


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2", "phi3"])
def test_awq_scaling_alone_changes_nothing(family: str, tiny) -> None:
    model, rows, _ = tiny(family)
    before = logits(model, rows[:2])
    chosen: list[float] = []
    calibrate(
        model,
        rows[:4],
        lambda layer, inputs: chosen.extend(scale_layer(layer, inputs, model.config, 128, torch.float32).values()),
    )
    assert any(exponent > 0 for exponent in chosen)
    torch.testing.assert_close(logits(model, rows[:2]), before, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_quantized_is_said(tiny) -> None:
    model, rows, _ = tiny("llama")
    with pytest.raises(InputError, match="calibration text"):
        quantize(model, [], method="gptq")
    layer = layers_of(model)[0].module
    layer.mlp.down_proj = torch.nn.Linear(40, 128)
    with pytest.raises(InputError, match="do not divide"):
        quantize(model, rows, method="gptq")


def test_calibration_texts_are_the_single_sequences_of_rows() -> None:
    rows = [{"input_ids": [1, 2], "labels": [0]}, {"input_ids": [[1], [2, 3]], "token_type_ids": [[0], [0, 1]]}]
    assert list(texts_of(rows)) == [
        {"input_ids": [1, 2]},
        {"input_ids": [1], "token_type_ids": [0]},
        {"input_ids": [2, 3], "token_type_ids": [0, 1]},
    ]
