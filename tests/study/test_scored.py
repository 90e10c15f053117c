from __future__ import annotations

import numpy as np
import pytest
from invented_runs import run

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.study.permutation import paired_permutation
from hf_crosstask.study.scored import ScoredRun, by_seed, common_seeds, scored_run


def predictions(target: Target, gold, predicted) -> Predictions:
    names = tuple(f"e{index}" for index in range(len(gold)))
    return Predictions(target, names, names, gold, predicted, (None,) * len(gold))


def similarity(predicted) -> Predictions:
    gold = (0.0, 1.0, 2.5, 3.0, 4.0, 1.5)
    target = Target("sts", "similarity", ())
    return predictions(target, tuple((score,) for score in gold), tuple(predicted))


CLASSES = predictions(
    Target("c", "classification", ("a", "b", "c")), (("a",), ("b",), ("c",), ("a",)), ("a", "c", "c", None)
)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "micro_f1"])
def test_a_run_has_the_value_that_scoring_gives(metric):
    found = scored_run(CLASSES, arm="S1", seed=3, metric=metric)
    assert found.value == pytest.approx(scoring_for(CLASSES.target).score(CLASSES)[metric])
    assert (found.name, found.ids.tolist()) == ("S1 seed 3 on c", ["e0", "e1", "e2", "e3"])


def test_lost_gold_stays_in_the_value():
    target = Target("r", "relation", ("none", "x"), negative_label="none", lost_gold={"x": 2})
    rows = predictions(target, (("x",), ("none",)), ("x", "none"))
    assert scored_run(rows, arm="S1", seed=0, metric="micro_f1").value == pytest.approx(2 / 4)


def test_correlations_are_compared_by_their_moments_around_one_centre():
    """Swapped predictions of two runs must be those that scoring would see."""
    a, b = (0.2, 1.1, 2.0, 3.3, 3.9, 1.0), (2.5, 2.9, 3.1, 4.9, 5.0, 2.2)
    first, second = (
        scored_run(similarity(side), arm=n, seed=0, metric="pearson") for n, side in zip("ab", (a, b), strict=True)
    )
    gold = [score for (score,) in similarity(a).gold]
    assert first.value == pytest.approx(np.corrcoef(gold, a)[0, 1])
    extreme = []
    for pattern in range(2**6):
        swapped = [[(pattern >> i) & 1 for i in range(6)], [1 - ((pattern >> i) & 1) for i in range(6)]]
        sides = [np.where(np.array(swap) == 1, b, a) for swap in swapped]
        extreme.append(np.corrcoef(gold, sides[0])[0, 1] - np.corrcoef(gold, sides[1])[0, 1])
    expected = np.mean(np.abs(extreme) >= abs(first.value - second.value) - 1e-12)
    assert paired_permutation([first], [second]).p == pytest.approx(expected)


def test_a_metric_without_sums_is_refused_with_those_that_have_them():
    with pytest.raises(InputError, match=r"'spearman' is no function of sums.*pearson"):
        scored_run(similarity(range(6)), arm="S1", seed=0, metric="spearman")
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        scored_run(CLASSES, arm="S1", seed=0, metric="acuracy")


def test_runs_of_an_arm_are_told_apart_by_seed():
    runs = [run("a", seed, [1.0, 0.0]) for seed in (2, 0)]
    assert list(by_seed(runs)) == [2, 0]
    assert common_seeds([runs, runs[:1]]) == [2]
    with pytest.raises(InputError, match="two runs of this arm"):
        by_seed([*runs, runs[0]])
    with pytest.raises(InputError, match="compare runs of one task"):
        by_seed([runs[0], run("a", 5, [1.0, 0.0], task="u")])


def test_a_run_whose_parts_do_not_fit_is_refused():
    fine = run("a", 0, [1.0, 0.0])
    with pytest.raises(ValueError, match="2 examples, 1 clusters"):
        ScoredRun("a", "t", 0, "m", fine.statistics, fine.constant, fine.clusters[:1], fine.ids, fine.metric)
    with pytest.raises(ValueError, match="do not fit"):
        ScoredRun("a", "t", 0, "m", fine.statistics, np.zeros(3), fine.clusters, fine.ids, fine.metric)
