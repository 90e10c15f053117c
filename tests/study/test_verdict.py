from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from invented_runs import account, arm, evidence, run

from hf_crosstask.errors import InputError
from hf_crosstask.study.verdict import Control, StudyVerdict, VerdictSettings, study_verdict, task_verdict

SETTINGS = VerdictSettings(replicates=500, margin=0.03)


def test_a_clear_gain_over_the_matched_control_is_transfer():
    verdict = task_verdict(evidence(single=0.6, matched=0.6, multi=0.7), SETTINGS)
    assert (verdict.category, verdict.claim, verdict.gain) == ("transfer", "confirmatory", "transfer")
    assert verdict.transfer.low > 0
    assert verdict.p_adjusted == verdict.p_transfer < 0.001
    assert "cross-task transfer" in verdict.sentence
    assert "Not ruled out by this study: another exposure to the task's own data" in verdict.sentence


def test_a_clear_loss_is_negative_transfer():
    verdict = task_verdict(evidence(matched=0.7, multi=0.6), SETTINGS)
    assert verdict.category == "negative_transfer"
    assert verdict.p_negative < 0.001 < verdict.p_transfer
    assert not verdict.controls[0].survived
    assert verdict.exposure.low > 0
    assert verdict.gain == "none shown"  # what exposure gave, the other tasks took


def test_a_gain_that_the_matched_control_has_too_is_exposure_and_never_transfer():
    verdict = task_verdict(evidence(single=0.6, matched=0.7, multi=0.7), SETTINGS)
    assert (verdict.category, verdict.gain) == ("equivalent", "exposure")
    assert verdict.exposure.low > 0
    assert "the gain that is shown is exposure, not transfer" in verdict.sentence


def test_arms_that_agree_are_equivalent_only_where_a_margin_was_declared():
    same = evidence(matched=0.6, multi=0.6)
    assert task_verdict(same, SETTINGS).category == "equivalent"
    without = task_verdict(same, VerdictSettings(replicates=500))
    assert (without.category, without.equivalence) == ("undecided", None)
    assert any("no smallest effect of interest" in warning for warning in without.warnings)


def test_arms_that_learned_nothing_are_not_equivalent():
    same = evidence(matched=0.6, multi=0.6)
    verdict = task_verdict(replace(same, trivial=0.9), SETTINGS)
    assert (verdict.category, verdict.at_floor, verdict.equivalence) == ("undecided", True, None)
    assert "neither is better than the trivial predictor" in verdict.sentence
    assert task_verdict(replace(same, trivial=0.3), SETTINGS).category == "equivalent"


def test_a_real_difference_smaller_than_the_declared_margin_is_equivalent():
    verdict = task_verdict(evidence(matched=0.6, multi=0.63), VerdictSettings(replicates=500, margin=0.2))
    assert verdict.p_transfer < 0.05
    assert verdict.category == "equivalent"


def test_noise_is_undecided():
    generator = np.random.default_rng(3)
    runs = {
        name: [run(name, seed, (generator.random(100) < 0.6).astype(float)) for seed in range(5)]
        for name in ("S2", "S1_token_controlled")
    }
    control = Control("S1_token_controlled", "total_tokens", runs["S1_token_controlled"])
    verdict = task_verdict(replace(evidence(), multi=runs["S2"], controls=[control], single=()), SETTINGS)
    assert verdict.category == "undecided"
    assert verdict.exposure is None
    assert "neither a difference nor equivalence is shown" in verdict.sentence
    assert any("80 % power" in warning for warning in verdict.warnings)


def test_exposure_and_transfer_add_up_to_the_difference():
    verdict = task_verdict(evidence(single=0.55, matched=0.6, multi=0.68), SETTINGS)
    assert verdict.exposure.estimate + verdict.transfer.estimate == pytest.approx(verdict.total.estimate, abs=1e-12)
    means = {name: score.mean for name, score in verdict.scores.items()}
    assert verdict.transfer.estimate == pytest.approx(means["S2"] - means["S1_token_controlled"])
    assert verdict.total.estimate == pytest.approx(means["S2"] - means["S1"])
    assert verdict.gain == "transfer and exposure"


def test_every_control_must_be_beaten():
    base = evidence(matched=0.6, multi=0.7)
    placebo = Control("text placebo", "text_placebo", arm("text placebo", 0.7))
    verdict = task_verdict(replace(base, controls=[*base.controls, placebo]), SETTINGS)
    assert verdict.category == "undecided"
    assert [each.survived for each in verdict.controls] == [True, False]
    assert verdict.p_transfer == pytest.approx(min(1, 2 * max(each.p_greater for each in verdict.controls)))
    assert "not shown to be better than text placebo" in verdict.sentence
    weak = Control("text placebo", "text_placebo", arm("text placebo", 0.6))
    beaten = task_verdict(replace(base, controls=[*base.controls, weak]), SETTINGS)
    assert beaten.category == "transfer"
    assert "beyond more training tokens and exposure to in-domain text" in beaten.sentence
    assert "exposure to in-domain text" not in beaten.not_ruled_out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"leaks": ["3 test sentences of t are in u train"]}, "leak: 3 test sentences of t"),
        ({"problems": ["S2 seed 3: unfinished"]}, "S2 seed 3: unfinished"),
        ({"data_fingerprints": {"S1 seed 0": "abc", "S2 seed 0": "abc", "S2 seed 1": "x"}}, "S2 seed 1: was run on other"),
        ({"data_fingerprints": {}}, "no data fingerprints"),
        ({"controls": []}, "there is no control"),
        ({"multi": []}, "the multi-task arm has no runs"),
        ({"parities": []}, "S1_token_controlled seed 0: has no token account"),
        (
            {"parities": [account("S1_token_controlled", s, control_planned=950, control_counted=950) for s in range(5)]},
            "difference of -50 is more than one example",
        ),
        (
            {"parities": [account("S1_token_controlled", s, reference_counted=999) for s in range(5)]},
            "planned with 1,000 forward tokens but counted 999",
        ),
        ({"single": arm("S1", 0.6, examples=401)}, "tested on other examples"),
        ({"single": [run("S1", 9, np.ones(400))]}, "no seed in common"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_gets_no_verdict_and_the_reason(changes, reason):
    verdict = task_verdict(replace(evidence(matched=0.6, multi=0.7), **changes), SETTINGS)
    assert (verdict.category, verdict.claim, verdict.transfer, verdict.p_adjusted) == (
        "no_verdict",
        "none",
        None,
        None,
    )
    assert any(reason in each for each in verdict.reasons)
    assert reason in verdict.sentence


def test_a_small_test_set_is_only_described():
    verdict = study_verdict([evidence("biosses", examples=20, matched=0.3, multi=0.9), evidence("u")], SETTINGS)
    small = verdict.tasks[0]
    assert (small.category, small.claim, small.descriptive) == ("undecided", "none", True)
    assert (small.p_transfer, small.p_adjusted) == (None, None)
    assert small.transfer.estimate == pytest.approx(0.6, abs=0.06)
    assert "descriptive only" in small.sentence
    assert (verdict.category, verdict.counts["undecided"]) == ("equivalent", 1)
    other = verdict.tasks[1]
    assert other.p_adjusted == min(other.p_transfer, other.p_negative)  # a family of one


def test_few_seeds_are_exploratory_and_one_seed_concludes_nothing():
    few = task_verdict(evidence(seeds=3, matched=0.6, multi=0.8), SETTINGS)
    assert (few.category, few.claim) == ("transfer", "exploratory")
    assert any("3 seeds are too few" in warning and "3.26" in warning for warning in few.warnings)
    assert "(exploratory)" in few.sentence
    one = task_verdict(evidence(seeds=1, matched=0.6, multi=0.8), SETTINGS)
    assert (one.category, one.claim) == ("undecided", "none")
    assert one.transfer.over == "test set only"


def test_missing_seeds_are_left_out_and_said():
    base = evidence(matched=0.6, multi=0.7)
    verdict = task_verdict(replace(base, multi=base.multi[:4]), SETTINGS)
    assert verdict.seeds == [0, 1, 2, 3]
    assert any("seeds [4] are missing" in warning for warning in verdict.warnings)


def borderline(task: str, confirmatory: bool = True):
    return evidence(task, matched=0.6, multi=0.618, confirmatory=confirmatory)


def test_holm_corrects_over_the_confirmatory_tasks_alone():
    settings = VerdictSettings(replicates=500)
    alone = task_verdict(borderline("t"), settings)
    family = study_verdict([borderline("t"), *(evidence(f"u{n}") for n in range(3))], settings)
    assert family.tasks[0].p_adjusted == pytest.approx(min(1, 4 * alone.p_adjusted))
    assert "Holm over 4 tasks" in family.tasks[0].sentence
    aside = study_verdict([borderline("t"), *(evidence(f"u{n}", confirmatory=False) for n in range(3))], settings)
    assert aside.tasks[0].p_adjusted == alone.p_adjusted
    assert (aside.tasks[1].p_adjusted, aside.tasks[1].claim) == (None, "exploratory")
    assert "uncorrected" in aside.tasks[1].sentence


def test_a_task_that_lost_its_verdict_does_not_help_the_others():
    settings = VerdictSettings(replicates=500)
    whole = study_verdict([borderline("t"), evidence("u")], settings)
    broken = study_verdict([borderline("t"), evidence("u", leaks=["all"])], settings)
    assert broken.tasks[0].p_adjusted >= whole.tasks[0].p_adjusted - 1e-12


def test_the_study_says_what_its_tasks_say():
    gain, loss, same = evidence("a", multi=0.7), evidence("b", matched=0.7), evidence("c")
    found = study_verdict([gain, loss, same], SETTINGS, name="demo")
    assert (found.category, found.at_least, found.name) == ("mixed", 1, "demo")
    assert found.win_tie_loss.model_dump() == {"wins": 1, "ties": 1, "losses": 1}
    assert found.counts == {"transfer": 1, "negative_transfer": 1, "equivalent": 1, "undecided": 0, "no_verdict": 0}
    means = [each.transfer.estimate for each in found.tasks]
    assert found.mean_transfer.estimate == pytest.approx(np.mean(means))
    assert study_verdict([gain, same], SETTINGS).category == "transfer"
    assert study_verdict([loss, same], SETTINGS).category == "negative_transfer"
    assert study_verdict([same], SETTINGS).category == "equivalent"
    assert study_verdict([replace(same, leaks=["x"])], SETTINGS).category == "no_verdict"
    assert "transfer on 1, negative transfer on 1, equivalent on 1" in found.sentence


def test_a_declared_study_of_few_seeds_says_that_it_is_exploratory():
    few = study_verdict([evidence("a", seeds=3, matched=0.6, multi=0.8)], SETTINGS)
    assert "Of 1 task (declared confirmatory, but exploratory for want of seeds): transfer on 1." in few.sentence
    enough = study_verdict([evidence("a", matched=0.6, multi=0.8)], SETTINGS)
    assert "Of 1 confirmatory task: transfer on 1." in enough.sentence


def test_an_exploratory_gain_does_not_make_the_study_positive():
    found = study_verdict([evidence("a", multi=0.7, confirmatory=False), evidence("b")], SETTINGS)
    assert (found.category, found.tasks[0].category, found.at_least) == ("equivalent", "transfer", 0)
    alone = study_verdict([evidence("a", multi=0.7, confirmatory=False)], SETTINGS)
    assert (alone.category, alone.confirmatory) == ("transfer", False)
    assert "exploratory" in alone.warnings[0]


def test_the_order_of_tasks_and_of_runs_does_not_matter():
    a, b = evidence("a", multi=0.65), evidence("b", matched=0.62)
    first = study_verdict([a, b], SETTINGS)
    second = study_verdict([b, replace(a, multi=a.multi[::-1], single=a.single[::-1])], SETTINGS)
    assert {each.task: each for each in first.tasks} == {each.task: each for each in second.tasks}


def test_a_larger_gain_is_never_less_sure():
    settings = VerdictSettings(replicates=500)
    p = [
        task_verdict(evidence(matched=0.6, multi=multi), settings).p_transfer
        for multi in (0.58, 0.6, 0.63, 0.66, 0.75)
    ]
    assert p == sorted(p, reverse=True)


def test_verdicts_survive_json():
    found = study_verdict([evidence("a", multi=0.7, trivial=0.5), evidence("b", leaks=["x"], trivial=0.5)], SETTINGS)
    text = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert StudyVerdict.model_validate(json.loads(text)) == found
    assert found.normalised["S2"] == pytest.approx((0.2 + 0.1) / 2 / 0.5, abs=0.03)


def test_arms_below_the_trivial_predictor_are_named():
    verdict = task_verdict(evidence(single=0.4, matched=0.4, multi=0.6, trivial=0.552), SETTINGS)
    assert any(
        "S1, S1_token_controlled: no better than the trivial predictor (0.552)" in each for each in verdict.warnings
    )


def test_one_cluster_cannot_be_resampled():
    one = {"clusters": ["d"] * 60}
    right = np.arange(60) % 2
    runs = {name: [run(name, seed, right, **one) for seed in range(5)] for name in ("S2", "S1_token_controlled")}
    control = Control("S1_token_controlled", "total_tokens", runs["S1_token_controlled"])
    verdict = task_verdict(replace(evidence(), multi=runs["S2"], controls=[control], single=()), SETTINGS)
    assert (verdict.category, verdict.transfer, verdict.descriptive) == ("undecided", None, True)
    assert "nothing can be estimated" in verdict.sentence


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="each task once"):
        study_verdict([], SETTINGS)
    with pytest.raises(InputError, match="each task once"):
        study_verdict([evidence("a"), evidence("a")], SETTINGS)
    with pytest.raises(InputError, match="same name"):
        task_verdict(replace(evidence(), single=arm("S2", 0.6)), SETTINGS)
    with pytest.raises(InputError, match="unknown matching mode"):
        task_verdict(replace(evidence(), controls=[Control("X", "tokens", arm("X", 0.6))]), SETTINGS)


def test_tasks_in_other_units_or_with_other_seeds_are_not_averaged():
    short = study_verdict([evidence("a"), evidence("b", seeds=4)], SETTINGS)
    assert short.mean_transfer is None
    assert any("different seeds" in warning for warning in short.warnings)
    base = evidence("a")
    control = base.controls[0]
    perplexity = replace(
        base,
        multi=[replace(each, metric_name="perplexity") for each in base.multi],
        single=(),
        controls=[replace(control, runs=[replace(each, metric_name="perplexity") for each in control.runs])],
    )
    mixed = study_verdict([perplexity, evidence("b")], SETTINGS)
    assert mixed.mean_transfer is None
    assert any("different units" in warning for warning in mixed.warnings)
    assert "points" not in mixed.tasks[0].sentence.split("on a is")[1].split("CI")[0]
