from __future__ import annotations

import json

import pytest

from hf_crosstask.errors import MatchError
from hf_crosstask.training.matching import read_reference


def test_a_finished_run_is_read_from_folder_or_file(finished_run):
    folder = finished_run(planned={"ner": 700, "cls": 300})
    for path in (folder, folder / "result.json", str(folder)):
        reference = read_reference(path)
        assert (reference.tokens, reference.mode, reference.path) == (1000, "total_tokens", str(path))
        assert reference.result.tasks["cls"].tokens.counted == 300


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"status": "stopped"}, "the run is stopped (time_limit), not finished; continue it with --resume"),
        ({"status": "failed"}, "the run is failed"),
        ({"counted": {"ner": 699, "cls": 300}}, "the run was planned with 1000 tokens but counted 999"),
        ({"counted": {"ner": 701, "cls": 299}}, "ner was planned with 700 tokens but counted 701"),
    ],
)
def test_a_run_that_cannot_be_trusted_is_refused(finished_run, run, message):
    folder = finished_run(planned={"ner": 700, "cls": 300}, **run)
    with pytest.raises(MatchError) as error:
        read_reference(folder)
    assert f"cannot match {folder}" in str(error.value)
    assert message in str(error.value)


def test_no_run_and_no_json_are_refused(tmp_path):
    with pytest.raises(MatchError, match="no such file: the run has not finished"):
        read_reference(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"schema_version": 1, "status": "finished"}))
    with pytest.raises(MatchError, match="which is no finished run"):
        read_reference(tmp_path)


def test_an_unknown_mode_is_refused(finished_run):
    with pytest.raises(MatchError, match="unknown match mode 'tokens'; did you mean 'total_tokens'"):
        read_reference(finished_run(planned={"ner": 5}), "tokens")
