from __future__ import annotations

import json
import math
import os

import pytest

from hf_crosstask.errors import CheckpointError
from hf_crosstask.training import checkpoint as checkpoints
from hf_crosstask.training.checkpoint import Progress


def progress(step=1, **changes):
    values = {
        "step": step,
        "plan": "p" * 64,
        "run": "r",
        "ledger": {"a": {"examples": 1, "tokens": 2, "padded": 3, "supervised": 1}},
        "loss_sums": {"a": (0.1, 7.0)},
        "seconds": 1.5,
        "threads": 1,
    }
    return Progress(**(values | changes))


@pytest.fixture
def save(tmp_path):
    def saved(step, text="weights"):
        staging = checkpoints.staging_folder(tmp_path, step)
        (staging / "sub").mkdir(parents=True)
        (staging / "trained.safetensors").write_text(text)
        (staging / "sub" / "state.json").write_text("{}")
        checkpoints.write_progress(staging, progress(step))
        return checkpoints.commit(staging)

    return saved


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_committed_checkpoint_is_complete(save, tmp_path):
    folder = save(5)
    assert folder == tmp_path / "checkpoint-5"
    assert checkpoints.problem(folder) is None
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["progress.json", "sub/state.json", "trained.safetensors"]
    assert names(tmp_path) == ["checkpoint-5"]
    assert checkpoints.read_progress(folder, plan="p" * 64, run="r") == progress(5)


def test_saving_a_step_again_replaces_it_whole(save, tmp_path):
    save(5, "old")
    (tmp_path / "checkpoint-5" / "stale").write_text("x")
    save(5, "new")
    assert names(tmp_path) == ["checkpoint-5"]
    assert (tmp_path / "checkpoint-5" / "trained.safetensors").read_text() == "new"
    assert not (tmp_path / "checkpoint-5" / "stale").exists()


def test_a_kill_between_two_renames_leaves_nothing_in_the_way(save, tmp_path):
    leftover = tmp_path / ".staging-checkpoint-5-replaced"
    leftover.mkdir()
    (leftover / "trained.safetensors").write_text("older")
    save(5)
    save(5)
    assert names(tmp_path) == ["checkpoint-5"]
    leftover.mkdir()
    checkpoints.remove_staging(tmp_path)
    assert names(tmp_path) == ["checkpoint-5"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    path.write_bytes(b"X" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("file", "damage", "problem"),
    [
        ("trained.safetensors", cut, "trained.safetensors is damaged"),
        ("sub/state.json", flip, "sub/state.json is damaged"),
        ("progress.json", os.unlink, "progress.json is missing"),
        ("manifest.json", os.unlink, "it has no manifest.json"),
        ("manifest.json", cut, None),
        ("manifest.json", flip, "its manifest.json is damaged"),
    ],
)
def test_damage_is_found_and_an_older_checkpoint_taken(save, tmp_path, file, damage, problem):
    save(3)
    newest = save(12)
    assert checkpoints.last_complete_checkpoint(tmp_path) == newest
    damage(newest / file)
    if problem is None:  # the last byte of the manifest is a line end
        return
    assert checkpoints.problem(newest) == problem
    assert checkpoints.last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    with pytest.raises(CheckpointError) as error:
        checkpoints.read_progress(newest, plan="p" * 64, run="r")
    assert str(error.value) == f"{newest} cannot be resumed: {problem}"


def test_steps_are_ordered_as_numbers_and_other_things_ignored(save, tmp_path):
    for step in (9, 10, 100):
        save(step)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == [f"checkpoint-{n}" for n in (9, 10, 100)]
    assert checkpoints.last_complete_checkpoint(tmp_path / "nowhere") is None


def test_what_killed_saves_left_is_removed(save, tmp_path):
    save(3)
    staging = checkpoints.staging_folder(tmp_path, 6)
    staging.mkdir()
    (staging / "trained.safetensors").write_text("half")
    assert checkpoints.last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    checkpoints.remove_staging(tmp_path)
    assert names(tmp_path) == ["checkpoint-3"]


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [1, 2, 3, 4]),
        (0, None, [1, 2, 3, 4]),
        (2, None, [3, 4]),
        (2, 1, [1, 4]),
        (1, 4, [4]),
        (1, 2, [2, 4]),
        (9, 1, [1, 2, 3, 4]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(save, tmp_path, limit, best, kept):
    for step in (1, 2, 3, 4):
        save(step)
    keep = None if best is None else tmp_path / f"checkpoint-{best}"
    checkpoints.rotate(tmp_path, limit, keep)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in kept]


def test_rotation_knows_the_best_by_another_path(save, tmp_path, monkeypatch):
    for step in (1, 2, 3):
        save(step)
    monkeypatch.chdir(tmp_path)
    checkpoints.rotate(tmp_path, 2, checkpoints.Path("checkpoint-1"))
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3"]


@pytest.mark.parametrize(
    ("wanted", "what"), [({"plan": "q" * 64, "run": "r"}, "plan"), ({"plan": "p" * 64, "run": "s"}, "recipe or data")]
)
def test_another_plan_or_run_is_refused(save, wanted, what):
    folder = save(5)
    with pytest.raises(CheckpointError) as error:
        checkpoints.read_progress(folder, **wanted)
    assert f"belongs to another {what} (fingerprint " in str(error.value)
    assert "Resume with the recipe and data it was started with, or start anew" in str(error.value)


def test_other_numbers_are_refused(tmp_path):
    staging = checkpoints.staging_folder(tmp_path, 1)
    staging.mkdir()
    checkpoints.write_progress(staging, progress(formats="bf16, nf4"))
    folder, same = checkpoints.commit(staging), {"plan": "p" * 64, "run": "r"}
    assert checkpoints.read_progress(folder, **same, formats="bf16, nf4") == checkpoints.read_progress(folder, **same)
    with pytest.raises(
        CheckpointError, match="computed in bf16, nf4, but here it would go on in fp16, which is another"
    ):
        checkpoints.read_progress(folder, **same, formats="fp16")


def test_a_foreign_checkpoint_is_refused(tmp_path):
    staging = checkpoints.staging_folder(tmp_path, 1)
    staging.mkdir()
    (staging / "model.safetensors").write_text("x")
    folder = checkpoints.commit(staging)
    with pytest.raises(CheckpointError, match="it was not written by hf_crosstask"):
        checkpoints.read_progress(folder, plan="p", run="r")


def test_another_version_of_progress_is_refused(tmp_path):
    staging = checkpoints.staging_folder(tmp_path, 1)
    staging.mkdir()
    (staging / "progress.json").write_text(progress().model_dump_json().replace('"version":1', '"version":2'))
    folder = checkpoints.commit(staging)
    with pytest.raises(CheckpointError, match=r"progress\.json is not a progress file of this version"):
        checkpoints.read_progress(folder, plan="p" * 64, run="r")


def test_losses_of_a_diverged_run_survive(tmp_path):
    staging = checkpoints.staging_folder(tmp_path, 1)
    staging.mkdir()
    checkpoints.write_progress(staging, progress(loss_sums={"a": (math.nan, 3.0), "b": (-math.inf, 1.0)}))
    read = checkpoints.read_progress(checkpoints.commit(staging), plan="p" * 64, run="r")
    assert math.isnan(read.loss_sums["a"][0])
    assert read.loss_sums["b"] == (-math.inf, 1.0)
