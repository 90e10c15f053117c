"""The validation script of trained studies, on one study of seconds: the same code, too small to say anything."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hf_crosstask.study.verdict import VerdictSettings

SCRIPT = Path(__file__).parents[1] / "validation" / "trained_studies.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPT.parent))  # as when it is run
    spec = importlib.util.spec_from_file_location("trained_studies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["trained_studies"] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPT.parent))
    yield module
    del sys.modules["trained_studies"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # every `train` collects garbage
    yield
    torch.set_num_threads(threads)


def test_one_study_from_data_to_verdict_and_again_from_its_cache(
    script: ModuleType, tmp_path: Path, one_thread: None
) -> None:
    scale = script.Scale(
        train=20, auxiliary=20, test=60, tokens=1024, short=512, tokens_per_step=512, hidden=16, seeds=2
    )
    study, settings = script.Planted(script.CONDITIONS[0], 0), VerdictSettings(margin=0.02, replicates=200)
    assert script.judge(study, scale, tmp_path, settings) is None  # nothing has run
    folder = script.run_study(study, scale, tmp_path)
    outcome = script.judge(study, scale, tmp_path, settings)
    verdict = outcome.verdict.tasks[0]
    assert verdict.category != "no_verdict", verdict.reasons
    assert (verdict.examples, verdict.clusters, len(verdict.seeds)) == (60, 30, 2)
    assert [(each.control_counted, each.difference, each.holds) for each in verdict.controls[0].parity] == [
        (1024, 0, True)
    ] * 2
    assert 0.3 < outcome.guess < 0.5
    written = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(written) == 2 * 3 * scale.seeds
    (folder / "S1-1.json").unlink()  # as if killed there
    script.run_study(study, scale, tmp_path)
    again = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {name for name in again if again[name] != written[name]} == {"S1-1.json", "S1-1.parquet"}
    assert script.judge(study, scale, tmp_path, settings).verdict == outcome.verdict
    assert "| shares nothing | 1 |" in script.report([outcome])


def test_tasks_that_share_nothing_have_no_word_in_common_and_others_as_many_as_planted(
    script: ModuleType, tmp_path: Path
) -> None:
    scale = script.Scale(train=60, auxiliary=120, test=10)
    common: dict[float, int] = {}
    shared_words = sys.modules["planted_tasks"].shared_words
    for condition in script.CONDITIONS[::-2]:  # sharing 1, 0.5 and (exposure only) 0
        study = script.Planted(condition, 3)
        script.write_tasks(study, scale, tmp_path / study.name)
        words = []
        for task in (script.TARGET, script.AUXILIARY):
            lines = (tmp_path / study.name / task / "train.jsonl").read_text().splitlines()
            words.append({word for line in lines for word in json.loads(line)["text"].split()})
        common[condition.sharing] = len(words[0] & words[1])
        assert words[0] & words[1] <= shared_words(condition.sharing, study.data_seed)
    assert 0 == common[0.0] < common[0.5] < common[1.0]


def test_more_studies_only_add_to_those_that_there_are(script: ModuleType) -> None:
    few, many = script.planted_studies(8), script.planted_studies(40)
    assert set(few) < set(many)
    assert len({study.data_seed for study in many}) == len(many) == 92


def test_the_bound_of_no_error_in_sixty_studies_is_below_five_percent(script: ModuleType) -> None:
    assert script.upper_bound(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert script.upper_bound(0, 60) < 0.05 < script.upper_bound(0, 58)
