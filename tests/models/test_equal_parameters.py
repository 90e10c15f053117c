from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Phi3Config

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.equal_parameters import (
    ARMS,
    TOLERANCE,
    adapter_parameters,
    describe_rank,
    equal_layout,
    module_sizes,
)

TASKS = tuple(f"t{number}" for number in range(8))
LORA = LoraSettings(r=16, alpha=32)


@pytest.fixture(scope="module")
def phi3_mini():
    """Phi-3-mini's real dimensions; no weights."""
    config = Phi3Config(
        vocab_size=32064, hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, num_attention_heads=32
    )
    return module_sizes(config, LORA)


def test_sizes_of_phi3_mini(phi3_mini):
    assert len(phi3_mini) == 4 * 32
    layer = {path.rpartition(".")[2]: size for path, size in phi3_mini.items() if ".7." in path}
    assert layer == {
        "qkv_proj": 3072 + 3 * 3072,
        "o_proj": 2 * 3072,
        "gate_up_proj": 3072 + 2 * 8192,
        "down_proj": 8192 + 3072,
    }


@pytest.mark.parametrize("matched", ["total", "active"])
@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
def test_the_arms_on_phi3_mini_are_equal_within_a_percent(phi3_mini, tasks, matched):
    reference = 16 * sum(phi3_mini.values())
    for arm in ARMS:
        layout = equal_layout(arm, LORA, TASKS[:tasks], phi3_mini, matched=matched)
        counted = adapter_parameters(layout, phi3_mini)
        assert abs(getattr(counted, matched) / reference - 1) <= 0.001  # large layers are many: far better than asked
        assert counted.active <= counted.total
        assert sum(counted.gates.values()) == (2 * 128 * tasks if arm == "A4" else 0)
        for lora in layout.adapters.values():
            assert lora.scaling == pytest.approx(LORA.scaling)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("family", ["bert"])
def test_what_is_counted_is_what_trains(build, tiny, arm, family):
    lora = LoraSettings(r=9, alpha=18)
    sizes = module_sizes(tiny(family).config, lora)
    tasks = ("drugs", "answer", "treats")
    layout = equal_layout(arm, lora, tasks, sizes)
    counted, model = adapter_parameters(layout, sizes), build(family, lora=layout)
    counts = model.parameter_counts()
    assert counts["per_adapter"] == counted.adapters
    assert counts["fusion"] == sum(counted.gates.values())
    assert counts["trainable"] - counts["heads"] == counted.total
    assert abs(counted.total / (9 * sum(sizes.values())) - 1) <= TOLERANCE
    scalings = {s for layer in model.fusion._layers for s in layer.scaling.values()}
    assert list(scalings) == pytest.approx([2.0] * len(scalings))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([256, 384, 512, 1152]), min_size=4, max_size=24),
    rank=st.integers(2, 24),
    tasks=st.integers(2, 8),
    arm=st.sampled_from(ARMS),
    matched=st.sampled_from(["total", "active"]),
    rslora=st.booleans(),
)
def test_equal_or_an_error_that_says_what_would_do(sizes, rank, tasks, arm, matched, rslora):
    layers = {f"layer.{number}": size for number, size in enumerate(sizes)}
    lora, reference = LoraSettings(r=rank, alpha=32, use_rslora=rslora), rank * sum(sizes)
    try:
        layout = equal_layout(arm, lora, TASKS[:tasks], layers, matched=matched)
    except InputError as error:
        found = re.search(r"model\.adapter\.r (\d+) would do$|choose another strategy$", str(error))
        if found[1]:
            equal_layout(arm, LoraSettings(r=int(found[1])), TASKS[:tasks], layers, matched=matched)
        return
    counted = adapter_parameters(layout, layers)
    assert abs(getattr(counted, matched) - reference) <= TOLERANCE * reference
    for each in layout.adapters.values():
        assert each.r >= 1
        assert set(each.ranks.values()) <= {each.r + 1}
        assert each.scaling == pytest.approx(lora.scaling)


def test_too_small_a_rank_says_by_how_much_and_what_would_do(phi3_mini):
    with pytest.raises(InputError, match=r"A2 with model.adapter.r 4: .*\+100.0% of the 6,291,456 .*r 8 would do"):
        equal_layout("A2", LoraSettings(r=4), TASKS, phi3_mini)
    with pytest.raises(InputError, match=r"A3 with model.adapter.r 8: .*\+12.5% .*r 9 would do"):
        equal_layout("A3", LoraSettings(r=8), TASKS, phi3_mini)


def test_uneven_ranks_are_spread_over_the_layers(phi3_mini):
    layout = equal_layout("A2", LORA, TASKS[:3], phi3_mini)
    (private, *_) = layout.adapters.values()
    assert describe_rank(private, len(phi3_mini)).startswith("5-6 (mean 5.3")
    raised = [path for path in private.ranks if "down_proj" in path]
    first_half = sum(int(path.split(".")[1]) < 16 for path in raised)
    assert abs(first_half - len(raised) / 2) <= 1
