from __future__ import annotations

import pytest
import torch

from hf_crosstask.errors import InputError
from hf_crosstask.models.precision import Precision, resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of a compute capability, where there is none."""

    def made(capability):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")

    return made


def test_auto_is_fp32_on_a_cpu():
    assert resolve_precision("auto", CPU) == Precision("fp32", torch.float32)
    assert resolve_precision("bf16", CPU) == Precision("bf16", torch.bfloat16)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 5), Precision("fp16", torch.float16)),
        ((8, 0), Precision("bf16", torch.bfloat16)),
        ((9, 0), Precision("bf16", torch.bfloat16)),
    ],
)
def test_auto_is_what_the_gpu_computes_natively(gpu, capability, expected):
    gpu(capability)
    assert resolve_precision("auto", GPU) == expected
    assert resolve_precision("fp32", GPU) == Precision("fp32", torch.float32)


def test_what_the_device_cannot_is_refused(gpu):
    with pytest.raises(InputError, match="'fp16', which needs a GPU; use 'fp32' or 'auto'"):
        resolve_precision("fp16", CPU)
    gpu((7, 5))
    with pytest.raises(InputError, match="'bf16', which Tesla T4 does not compute natively; use 'fp16' or 'auto'"):
        resolve_precision("bf16", GPU)
