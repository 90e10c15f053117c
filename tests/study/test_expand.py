from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fabricated import STUDY, write_study

from hf_crosstask.errors import RecipeError
from hf_crosstask.study.expand import PlannedRun, expand
from hf_crosstask.study.load import load_study
from hf_crosstask.study.runner import parse_shard, shard


def runs_of(path: Path, *overrides: str) -> list[PlannedRun]:
    study, base = load_study(path, overrides)
    return expand(study, base, path, lambda spec: f"data of {spec.name}")


def arms(**more: Any) -> str:
    return f"arms={json.dumps({**STUDY['arms'], **more})}"


def test_every_arm_has_its_runs_references_first(tmp_path):
    runs = runs_of(write_study(tmp_path))
    assert sorted(run.recipe.strategy.name for run in runs) == ["S1"] * 4 + ["S1_token_controlled"] * 4 + ["S2"] * 2
    place = {run.id: number for number, run in enumerate(runs)}
    assert len(place) == len(runs)
    for number, run in enumerate(runs):
        if run.recipe.strategy.name == "S1_token_controlled":
            assert run.reference is not None
            assert place[run.reference] < number
            reference = runs[place[run.reference]].recipe
            assert (reference.strategy.name, reference.training.seed) == ("S2", run.recipe.training.seed)


def test_all_runs_audit_the_same_tasks(tmp_path):
    for run in runs_of(write_study(tmp_path)):
        assert run.recipe.audit is not None
        assert sorted([*run.recipe.task_names, *(spec.name for spec in run.recipe.audit.against)]) == ["bees", "wasps"]


def test_a_runs_name_depends_on_what_decides_its_result(tmp_path):
    path = write_study(tmp_path)
    ids = {run.id for run in runs_of(path)}
    assert ids == {run.id for run in runs_of(path, "output_dir=elsewhere", "name=other", "execution.workers=3")}
    assert ids < {run.id for run in runs_of(path, "seeds=[1,2,3]")}
    assert ids < {
        run.id for run in runs_of(path, arms(more={"strategy": "S1", "match": {"arm": "S2", "mode": "updates"}}))
    }
    longer = {run.id for run in runs_of(path, "recipe.budget.epochs=3")}
    assert not ids & longer
    study, base = load_study(path)
    assert not ids & {run.id for run in expand(study, base, path, lambda spec: f"other data of {spec.name}")}


def test_a_changed_reference_changes_what_is_matched_to_it(tmp_path):
    path = write_study(tmp_path)
    changed = {**STUDY["arms"]["S2"], "recipe": {"training": {"learning_rate": 1e-5}}}
    before, after = ({run.id for run in runs_of(path, *more)} for more in ((), (arms(S2=changed),)))
    assert {id.partition("-")[0] for id in before & after} == {"S1"}


def test_arms_that_come_to_the_same_run_share_it(tmp_path):
    twin = {"strategy": "S1_token_controlled", "match": {"arm": "S2"}}
    runs = runs_of(write_study(tmp_path), arms(twin=twin))
    assert [run.id for run in runs] == [run.id for run in runs_of(write_study(tmp_path))]
    assert sum(len(run.cells) == 2 for run in runs) == 4


def test_placebos_doses_envelopes_and_pairs(tmp_path):
    more = {
        "labels": {"strategy": "S2", "placebo": "permuted_labels", "match": {"arm": "S2"}},
        "text": {"strategy": "S2", "placebo": "text", "control_of": "S2"},
        "domain": {
            "strategy": "S2", "placebo": "out_of_domain", "control_of": "S2",
            "auxiliary": [{**STUDY_TASK, "name": "ants", "options": {"sharing": 0.0}}],
        },
        "dose": {"strategy": "S2", "match": {"arm": "S2"}, "shares": [0.25, 0.4]},
        "envelope": {"strategy": "S1", "match": {"arm": "S2", "mode": "envelope"}},
        "distinct": {"strategy": "S2", "match": {"arm": "S1", "mode": "unique_tokens"}},
    }  # fmt: skip
    runs = runs_of(write_study(tmp_path), arms(**more), "seeds=[1]")
    found = {name: [run for run in runs if run.cells[0].arm == name] for name in more}
    assert {name: len(each) for name, each in found.items()} == {
        "labels": 2, "text": 2, "domain": 2, "dose": 4, "envelope": 6, "distinct": 2,
    }  # fmt: skip
    for name, placebo in (("labels", "permuted_labels"), ("text", "text")):
        for run in found[name]:
            (cell,) = run.cells
            assert run.recipe.placebos == {"bees" if cell.target == "wasps" else "wasps": placebo}
    assert {run.recipe.task_names for run in found["domain"]} == {("bees", "ants"), ("wasps", "ants")}
    for run in found["dose"]:
        (cell,) = run.cells
        assert run.recipe.mixing.weights is not None
        assert run.recipe.mixing.weights[str(cell.target)] == pytest.approx(1 - (cell.share or 0))
    fractions = [run.recipe.budget.match.fraction for run in found["envelope"] if run.recipe.budget.match]
    assert sorted(fractions) == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert all(run.recipe.evaluation.score_validation for run in found["envelope"])
    assert {run.reference for run in found["distinct"]} == {
        run.id for run in runs if run.recipe.strategy.name == "S1" and not run.reference
    }
    assert all("ants" in str([run.recipe.task_names, run.recipe.audit]) for run in runs)


STUDY_TASK = {"type": "classification", "reader": "synthetic", "labels": ["stable", "critical"]}


def test_pairs_are_task_sets_of_their_own(tmp_path):
    third = {**STUDY_TASK, "name": "ants", "options": {}}
    tasks = json.dumps(["synthetic_ner", "synthetic_relation", third])
    runs = runs_of(write_study(tmp_path), f"tasks={tasks}", 'groups=["all","pairs"]', "seeds=[1]")
    together = [run for run in runs if run.recipe.strategy.name == "S2"]
    assert sorted(len(run.recipe.tasks) for run in together) == [2, 2, 2, 3]
    assert sum(run.recipe.strategy.name == "S1_token_controlled" for run in runs) == 9


def test_everything_wrong_with_a_study_is_said_at_once(tmp_path):
    path = write_study(
        tmp_path,
        seed=[1],
        seeds=[1, 1],
        smallest_effect=-1,
        arms={
            "S2": {"strategy": "S22"},
            "S1": {"strategy": "S1", "placebo": "permuted_labels", "control_of": "S2"},
            "x": {"strategy": "S1", "matc": {}},
        },
    )
    with pytest.raises(RecipeError) as caught:
        load_study(path)
    found = dict(caught.value.problems)
    assert "did you mean 'seeds'" in found["seed"]
    assert found["seeds"] == "a seed occurs twice"
    assert "must be greater than 0" in found["smallest_effect"]
    assert '"S2"' in found["arms.S2.strategy"]
    assert "goes with a multi-task arm" in found["arms.S1.placebo"]
    assert found["arms.x.matc"] == "unknown key; did you mean 'match'?"


def test_arms_must_name_arms_that_can_be_matched(tmp_path):
    wrong = {
        "a": {"strategy": "S1", "match": {"arm": "S3"}},
        "b": {"strategy": "S1", "match": {"arm": "S1"}},
        "c": {"strategy": "S2", "match": {"arm": "S2", "mode": "target_tokens"}},
        "d": {"strategy": "S1", "match": {"arm": "S2", "mode": "unique_tokens"}},
    }
    with pytest.raises(RecipeError) as caught:
        load_study(write_study(tmp_path), [arms(**wrong)])
    found = dict(caught.value.problems)
    assert "unknown arm 'S3'" in found["arms.a.match.arm"]
    assert "matches an arm to a multi-task one" in found["arms.b.match.arm"]
    assert "matches a single-task arm" in found["arms.c.match.arm"]
    assert "unique_tokens matches a multi-task arm" in found["arms.d.match.arm"]


def test_a_wrong_recipe_names_the_arm(tmp_path):
    path = write_study(tmp_path)
    with pytest.raises(RecipeError) as caught:
        runs_of(path, 'arms.S1.recipe={"training": {"learning_rat": 1}, "budget": {"tokens": -5}}')
    found = dict(caught.value.problems)
    assert "learning_rate" in found["arms.S1.training.learning_rat"]
    assert any(key.startswith("arms.S1.budget") for key in found)


def test_shards_are_disjoint_complete_and_closed(tmp_path):
    runs = runs_of(write_study(tmp_path), "seeds=[1,2,3]")
    parts = [shard(runs, number, 3) for number in (1, 2, 3)]
    assert sorted(run.id for part in parts for run in part) == sorted(run.id for run in runs)
    for part in parts:
        ids = {run.id for run in part}
        assert all(run.reference in ids for run in part if run.reference)
    assert parse_shard("2/3") == (2, 3)
    for text in ("0/3", "4/3", "a", "1/"):
        with pytest.raises(Exception, match="write i/n"):
            parse_shard(text)
