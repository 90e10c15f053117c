from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.holdout import choose_groups, hold_out
from hf_crosstask.tasks.schema import make_example

SIZES = st.dictionaries(st.text(max_size=5), st.integers(1, 4), min_size=1, max_size=20)


@given(SIZES, st.data())
def test_groups_never_exceed_the_total(sizes: dict[str, int], data: st.DataObject) -> None:
    everything = sum(sizes.values())
    total = data.draw(st.integers(0, everything - 1))
    chosen = choose_groups(sizes, total, 0, "x")
    held = sum(sizes[group] for group in chosen)
    assert held <= total
    assert all(held + sizes[group] > total for group in sizes.keys() - chosen), "nothing more would fit"
    shuffled = dict(reversed(sizes.items()))
    assert choose_groups(shuffled, total, 0, "x") == chosen, "the order of the file does not matter"


@given(st.integers(1, 50), st.data())
def test_single_examples_are_exact(count: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(0, count - 1))
    assert len(choose_groups({str(number): 1 for number in range(count)}, total, 7, "x")) == total


def test_the_seed_chooses() -> None:
    sizes = {str(number): 1 for number in range(100)}
    assert choose_groups(sizes, 50, 0, "x") != choose_groups(sizes, 50, 1, "x")


def test_something_must_stay() -> None:
    with pytest.raises(DataFormatError, match="cannot hold out 3 of 3"):
        choose_groups({"a": 2, "b": 1}, 3, 0, "x")


def test_examples_keep_their_order() -> None:
    rows = [make_example(str(number), "x", "t", split_group=f"g{number % 5}") for number in range(20)]
    kept, held = hold_out(rows, 8, 0, "x")
    assert (len(kept), len(held)) == (12, 8)
    assert not {row["split_group"] for row in kept} & {row["split_group"] for row in held}
    for part in (kept, held):
        assert [row["id"] for row in part] == sorted((row["id"] for row in part), key=int)
