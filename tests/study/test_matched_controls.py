"""Controls matched by FLOPs, by parameters, and the envelope: their runs, their proof, and equal looks at validation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabricated import STUDY, finish, write_study

from hf_crosstask.atomic import json_fingerprint
from hf_crosstask.errors import RecipeError
from hf_crosstask.study.assess import assess
from hf_crosstask.study.command import open_study
from hf_crosstask.study.expand import PlannedRun
from hf_crosstask.study.schema import Study
from hf_crosstask.study.store import Store

ARMS = {
    "S2": {"strategy": "S2", "confirmatory": True},
    "flops": {"strategy": "S1_token_controlled", "match": {"arm": "S2", "mode": "flops"}},
    "parameters": {"strategy": "S1_token_controlled", "match": {"arm": "S2", "mode": "parameters"}},
    "envelope": {"strategy": "S1_token_controlled", "match": {"arm": "S2", "mode": "envelope"}},
}
#: Ten looks at validation, by which the checkpoint is chosen.
CHOOSING = {
    "eval_strategy": "steps", "eval_steps": 0.1, "save_strategy": "steps", "save_steps": 0.1,
    "load_best_model_at_end": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    _, store = open_study(write_study(folder, arms=ARMS))
    for run in store.runs:
        finish(run, store.output_dir)
    return folder


@pytest.fixture
def opened(original: Path, tmp_path: Path) -> tuple[Study, Store]:
    shutil.copytree(original / "out", tmp_path / "out")
    return open_study(write_study(tmp_path, arms=ARMS))


def change(store: Store, run: PlannedRun, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit a result, and put its checksum right."""
    path = store.folder(run) / "result.json"
    content = json.loads(path.read_text())
    edit(content)
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": json_fingerprint(content)}))


def runs_of(store: Store, arm: str) -> list[PlannedRun]:
    return [run for run in store.runs if run.cells[0].arm == arm]


def test_every_control_is_proved_and_says_what_it_rules_out(opened):
    study, store = opened
    assert store.problems() == []
    (assessed,) = assess(study, store)
    for verdict in assessed.verdict.tasks:
        assert verdict.reasons == []
        proofs = {control.mode: control.parity for control in verdict.controls}
        assert list(proofs) == ["flops", "envelope", "parameters"]
        assert {mode: {(each.unit, each.holds) for each in parity} for mode, parity in proofs.items()} == {
            "flops": {("FLOPs", True)},
            "envelope": {("forward tokens", True)},
            "parameters": {("forward tokens", True)},
        }
        for each in proofs["flops"]:
            assert each.reference_counted > 100_000
            assert abs(each.difference) <= each.allowed < 40_000
        (envelope,) = (each for each in verdict.controls if each.mode == "envelope")
        # All validation scores are equal, so the smallest budget is taken.
        assert envelope.selection == (
            "the best of 3 budgets by validation (share of the tokens: seed 1 0.25, seed 2 0.25); no arm chooses a "
            "checkpoint by validation, so this choice is the only look at it"
        )
        assert f"envelope is {envelope.selection}" in verdict.warnings


def cheaper(content: dict[str, Any]) -> None:
    for task in content["flops"]["tasks"].values():
        task["token"] -= 1


def fewer_flops(content: dict[str, Any]) -> None:
    """As a shorter plan would have, and said so everywhere but in the plan."""
    for each in (content["flops"], *content["flops"]["tasks"].values()):
        each["planned"] = each["counted"] = each["counted"] // 2


def far_off(content: dict[str, Any]) -> None:
    content["match"]["difference"] = -60_000


def another_size(content: dict[str, Any]) -> None:
    content["match"]["parameters"]["reached"] = 5100


def not_counted(content: dict[str, Any]) -> None:
    content["flops"] = None


@pytest.mark.parametrize(
    ("arm", "edit", "kind", "said"),
    [
        ("flops", cheaper, "tampered", "FLOPs of the result are not those of its plan"),
        ("flops", fewer_flops, "tampered", "FLOPs of the result are not those of its plan"),
        ("flops", far_off, "unequal tokens", "of flops that it is matched to by -60,000, more than one example"),
        ("flops", not_counted, "tampered", "matched by FLOPs, and its result has none"),
        ("parameters", another_size, "unequal parameters", "has 5,100 of 5,000"),
    ],
)
def test_a_broken_match_gives_no_verdict(opened, arm, edit, kind, said):
    study, store = opened
    run = runs_of(store, arm)[0]
    change(store, run, edit)
    (problem,) = store.problems()
    assert (problem.run, problem.kind) == (run.label, kind)
    assert said in problem.text
    (assessed,) = assess(study, store)
    assert assessed.verdict.tasks[0].category == "no_verdict"
    assert assessed.verdict.tasks[1].category != "no_verdict"


def test_parameters_matched_to_another_run_give_no_verdict(opened):
    study, store = opened
    change(store, runs_of(store, "S2")[0], lambda content: content["parameters"].update(trainable=6000))
    (assessed,) = assess(study, store)
    (reason,) = assessed.verdict.tasks[0].reasons
    assert "its parameters were matched to 5000, the reference has 6000" in reason


def test_results_of_earlier_versions_still_count(opened):
    _, store = opened

    def older(content: dict[str, Any]) -> None:
        del content["flops"], content["validation_looks"]

    for run in runs_of(store, "S2") + runs_of(store, "envelope"):
        change(store, run, older)
    assert store.problems() == []


def choosing(folder: Path, training: dict[str, Any], **arms: Any) -> tuple[Study, Store]:
    return open_study(write_study(folder, arms={**ARMS, **arms}, recipe={"training": training}))


def test_where_training_chooses_by_validation_all_look_equally_often(tmp_path):
    study, store = choosing(tmp_path, CHOOSING)
    for run in store.runs:
        finish(run, store.output_dir)

    def looked(times: int | None) -> Callable[[dict[str, Any]], None]:
        return lambda content: content.update(validation_looks=times)

    for run in store.runs:
        change(store, run, looked(10))
    (assessed,) = assess(study, store)
    for verdict in assessed.verdict.tasks:
        assert verdict.category != "no_verdict"
        (envelope,) = (each for each in verdict.controls if each.mode == "envelope")
        assert "looked at validation 10 times to choose the checkpoint" in envelope.selection
        assert "one look more, in the control's favour" in envelope.selection
    short = next(run for run in runs_of(store, "envelope") if run.cells[0].fraction == 0.25)
    for times, said in ((8, "looked 8 times"), (None, "does not say how often it looked")):
        change(store, short, looked(times))
        (assessed,) = assess(study, Store(store.output_dir, store.runs))
        (reason,) = assessed.verdict.tasks[0].reasons
        assert reason.startswith("unequal looks at validation: ")
        assert f"{short.label} {said}" in reason
        assert "S2/bees+wasps/seed 1 looked 10 times" in reason


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"eval_steps": 20, "save_steps": 20}, 'set training.eval_strategy "steps"'),
        ({"eval_strategy": "epoch", "save_strategy": "epoch", "eval_steps": None}, "to the same share of the run"),
    ],
)
def test_looks_that_depend_on_the_budget_are_refused_before_anything_runs(tmp_path, training, said):
    with pytest.raises(RecipeError, match=said) as caught:
        choosing(tmp_path, {**CHOOSING, **training})
    assert {key for key, _ in caught.value.problems} == {"arms.envelope"}


def test_an_arm_that_chooses_otherwise_than_its_envelope_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="the one chooses nothing, the other the checkpoint"):
        choosing(tmp_path, {}, S2={**ARMS["S2"], "recipe": {"training": CHOOSING}})


def test_keys_go_with_their_modes(tmp_path):
    wrong = {
        "several": {"strategy": "S2", "match": {"arm": "S2", "mode": "parameters"}},
        "key": {"strategy": "S1", "match": {"arm": "S2", "equal_parameters": "active"}},
    }
    with pytest.raises(RecipeError) as caught:
        open_study(write_study(tmp_path, arms={**STUDY["arms"], "several": wrong["several"], "a": wrong["key"]}))
    found = dict(caught.value.problems)
    assert "only goes with the mode parameters" in found["arms.a.match.equal_parameters"]
    with pytest.raises(RecipeError, match="parameters matches a single-task arm to a multi-task one"):
        open_study(write_study(tmp_path, arms={**STUDY["arms"], "several": wrong["several"]}))
    active = {"strategy": "S1", "match": {"arm": "S2", "mode": "parameters", "equal_parameters": "active"}}
    _, store = open_study(write_study(tmp_path, arms={**STUDY["arms"], "active": active}))
    assert {run.recipe.budget.match.equal_parameters for run in runs_of(store, "active")} == {"active"}
    # Recipes of other modes are named as they were before there was the key.
    for run in runs_of(store, "S1_token_controlled"):
        assert "equal_parameters" not in run.recipe.resolved()["budget"]["match"]
