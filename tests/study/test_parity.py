from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_runs import account

from hf_crosstask.errors import InputError
from hf_crosstask.study.parity import EXPECTED, RULES_OUT, Account, parity_problems, proof


def test_a_control_within_one_example_of_its_target_holds():
    parity = account("C", 1, control_planned=1020, control_counted=1020)
    assert parity.problems() == []
    assert proof(parity).model_dump() == {
        "seed": 1,
        "unit": "forward tokens",
        "reference_planned": 1000,
        "reference_counted": 1000,
        "control_planned": 1020,
        "control_counted": 1020,
        "difference": 20,
        "allowed": 20,
        "holds": True,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control_planned": 1021, "control_counted": 1021}, r"difference of \+21 is more than one example"),
        ({"control_planned": 979, "control_counted": 979}, r"difference of -21"),
        ({"control_planned": 991}, "control was planned with 991 forward tokens but counted 990"),
        ({"reference_planned": 1001}, "matched to was planned with 1,001"),
    ],
)
def test_a_broken_account_says_how(changes, said):
    assert re.search(said, "; ".join(account("C", 1, **changes).problems()))
    assert not proof(account("C", 1, **changes)).holds


@settings(max_examples=30)
@given(st.integers(0, 50))
def test_parity_holds_up_to_the_allowed_difference(difference):
    parity = account("C", 0, control_planned=1000 - difference, control_counted=1000 - difference)
    assert (parity.problems() == []) == (difference <= 20)


def test_a_missing_or_foreign_account_is_a_problem():
    accounts = [Account("C", "total_tokens", (0, 1)), Account("P", "text_placebo", (0, 1))]
    assert parity_problems("t", accounts, [account("C", 0), account("C", 1)]) == []
    (missing,) = parity_problems("t", accounts, [account("C", 0)])
    assert missing.startswith("C seed 1: has no token account")
    assert "is of task u, not t" in parity_problems("t", [], [account("C", 0, task="u")])[0]


def test_every_mode_says_what_it_rules_out():
    assert set(EXPECTED) <= set(RULES_OUT)
    with pytest.raises(InputError, match="did you mean 'total_tokens'"):
        Account("C", "total_token", (0,))
