from __future__ import annotations

import pytest

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import AdapterLayout, adapter_layout, with_rank
from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.recipe.schema import Strategy

LORA = LoraSettings(r=16, alpha=32, train_embeddings=True)
TASKS = {"a": "pubmed", "lora": "mimic", "c": "pubmed"}


@pytest.mark.parametrize("name", ["S1", "S2", "S4"])
def test_one_adapter_for_all(name):
    layout = adapter_layout(Strategy(name=name), LORA, TASKS)
    assert layout.adapters == {"shared": LORA}
    assert layout.shared == ("shared",)
    assert layout.users("shared") == ("a", "lora", "c")


@pytest.mark.parametrize("strategy", [Strategy(name="S3a"), Strategy(name="S5", architecture="S3a")])
def test_a_shared_adapter_and_one_for_each_task(strategy):
    layout = adapter_layout(strategy, LORA, TASKS)
    assert list(layout.adapters) == ["shared", "private_a", "private_lora", "private_c"]
    assert layout.adapters["private_lora"] == LoraSettings(r=8, alpha=16)  # half the rank, the same scaling
    assert layout.uses["lora"] == ("shared", "private_lora")
    assert layout.private == {task: (f"private_{task}",) for task in TASKS}
    assert layout.users("private_a") == ("a",)
    assert layout.fusion == "sum"


def test_no_adapter_s_name_is_part_of_lora_():
    """PEFT initialises the weights of such adapters anew as it loads them."""
    assert not any(name in "lora_" for name in adapter_layout(Strategy(name="S3a"), LORA, TASKS).adapters)


def test_tasks_of_a_provenance_stay_out_of_the_shared_adapter():
    layout = adapter_layout(Strategy(name="S3a", private_provenance=("mimic",), private_r=3), LORA, TASKS)
    assert layout.users("shared") == ("a", "c")
    assert layout.uses["lora"] == ("shared", "private_lora")  # they use it
    assert layout.untrained == {("lora", "shared")}
    assert layout.adapters["private_a"].r == 3


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("mayo",), "no task has provenance 'mayo'; the tasks have mimic, pubmed"),
        (("mimic", "pubmed"), "nobody trains it"),
    ],
)
def test_a_provenance_that_leaves_nothing_is_an_error(places, message):
    with pytest.raises(InputError, match=message):
        adapter_layout(Strategy(name="S3a", private_provenance=places), LORA, TASKS)


def test_a_task_with_the_name_of_an_adapter_is_refused():
    with pytest.raises(InputError, match="'shared' has the name of an adapter"):
        adapter_layout(Strategy(name="S3a"), LORA, {"shared": "pubmed", "other": "pubmed"})


def test_every_adapter_is_used():
    with pytest.raises(ValueError, match="uses"):
        AdapterLayout({"shared": LORA}, {"a": ("other",)})
    with pytest.raises(InputError, match="no task trains the adapter 'idle'"):
        AdapterLayout({"shared": LORA, "idle": LORA}, {"a": ("shared",)})


@pytest.mark.parametrize("rslora", [False, True])
def test_another_rank_keeps_the_scaling(rslora):
    lora = LoraSettings(r=16, alpha=32, use_rslora=rslora)
    assert with_rank(lora, 5).scaling == pytest.approx(lora.scaling)
