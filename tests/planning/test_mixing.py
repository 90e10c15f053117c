from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import PlanError
from hf_crosstask.planning.mixing import Mixing, apportion, token_shares

EXAMPLES = {"small": 10, "large": 1000}
TOKENS = {"small": 1000, "large": 20_000}  # 100 and 20 tokens an example


def test_proportional_gives_every_example_the_same_number_of_visits():
    for unit in ("examples", "tokens"):
        shares = token_shares(Mixing(unit=unit), EXAMPLES, TOKENS)
        assert shares == pytest.approx({"small": 1 / 21, "large": 20 / 21})


def test_uniform_counts_draws_or_tokens():
    assert token_shares(Mixing("uniform", unit="tokens"), EXAMPLES, TOKENS) == {"small": 0.5, "large": 0.5}
    # as many draws of each: tokens in the ratio of mean lengths
    assert token_shares(Mixing("uniform"), EXAMPLES, TOKENS) == pytest.approx({"small": 100 / 120, "large": 20 / 120})


def test_temperature_is_the_root_of_the_size():
    shares = token_shares(Mixing("temperature", temperature=2.0, unit="tokens"), EXAMPLES, TOKENS)
    assert shares["large"] / shares["small"] == pytest.approx(math.sqrt(20))
    draws = token_shares(Mixing("temperature", temperature=2.0), EXAMPLES, TOKENS)
    assert draws["large"] / draws["small"] == pytest.approx(math.sqrt(100) * 20 / 100)


@pytest.mark.parametrize("unit", ["examples", "tokens"])
def test_temperature_goes_from_proportional_to_uniform(unit):
    at_one = token_shares(Mixing("temperature", temperature=1.0, unit=unit), EXAMPLES, TOKENS)
    at_infinity = token_shares(Mixing("temperature", temperature=1e9, unit=unit), EXAMPLES, TOKENS)
    assert at_one == pytest.approx(token_shares(Mixing(unit=unit), EXAMPLES, TOKENS))
    assert at_infinity == pytest.approx(token_shares(Mixing("uniform", unit=unit), EXAMPLES, TOKENS))


def test_a_very_small_temperature_does_not_overflow():
    shares = token_shares(
        Mixing("temperature", temperature=0.01), {"a": 100_000, "b": 99_000}, {"a": 10**7, "b": 10**7}
    )
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] / shares["b"] == pytest.approx((100 / 99) ** 100 * 0.99)


def test_explicit_weights():
    shares = token_shares(Mixing("explicit", weights={"small": 3, "large": 1}, unit="tokens"), EXAMPLES, TOKENS)
    assert shares == {"small": 0.75, "large": 0.25}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"small": 1}, "mixing weights name no weight for large"),
        ({"small": 1, "large": 1, "lagre": 1}, "mixing weights: unknown task 'lagre'; did you mean 'large'?"),
        ({"small": 0, "large": 1}, "mixing weight of small must be a positive number, found 0"),
        ({"small": float("nan"), "large": 1}, "mixing weight of small must be a positive number, found nan"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(PlanError) as error:
        token_shares(Mixing("explicit", weights=weights), EXAMPLES, TOKENS)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling": "proportinal"}, "unknown sampling 'proportinal'; did you mean 'proportional'?"),
        ({"unit": "words"}, "unknown mixing unit 'words'; valid: examples, tokens"),
        ({"temperature": 0}, "mixing temperature must be a positive number, found 0"),
        ({"weights": {"a": 1}}, "mixing weights are given with sampling 'explicit', and only with it"),
        ({"sampling": "explicit"}, "mixing weights are given with sampling 'explicit', and only with it"),
    ],
)
def test_bad_rules(arguments, message):
    with pytest.raises(PlanError) as error:
        Mixing(**arguments)
    assert str(error.value) == message


@given(
    st.integers(0, 10**12),
    st.dictionaries(st.text(max_size=3), st.floats(1e-6, 1e6), min_size=1, max_size=12),
)
def test_quotas_sum_to_the_total_and_are_within_one_of_the_share(total, weights):
    whole = sum(weights.values())
    shares = {task: weight / whole for task, weight in weights.items()}
    quotas = apportion(total, shares)
    assert sum(quotas.values()) == total
    for task, quota in quotas.items():
        assert quota >= 0
        assert abs(quota - total * shares[task]) <= 1 + 1e-9 * total


def test_largest_remainder_gets_the_odd_token_and_ties_go_by_name():
    assert apportion(10, {"a": 0.24, "b": 0.76}) == {"a": 2, "b": 8}
    assert apportion(10, {"a": 0.26, "b": 0.74}) == {"a": 3, "b": 7}
    assert apportion(3, {"b": 0.5, "a": 0.5}) == {"b": 1, "a": 2}
