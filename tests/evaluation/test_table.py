"""The closing table, character by character."""

from __future__ import annotations

import io
from typing import Any

import pytest

from hf_crosstask.evaluation.result import RunResult
from hf_crosstask.evaluation.table import print_table, render

EXPECTED = """\
s2_toy: S2, seed 42
+---------+-----------+---------------------------+----------+-----------+--------+
| task    | metric    |            score [95% CI] | majority |    tokens | epochs |
+---------+-----------+---------------------------+----------+-----------+--------+
| genes   | entity_f1 |   0.8123 [0.7623, 0.8623] |   0.0000 | 1,234,567 |   2.50 |
| answers | accuracy  | ! 0.5520 [0.5020, 0.6020] |   0.5520 |     1,000 |   2.50 |
+---------+-----------+---------------------------+----------+-----------+--------+
| total   |           |                           |          | 1,235,567 |        |
+---------+-----------+---------------------------+----------+-----------+--------+
! does not exceed the majority baseline
"""


def test_plain_text(run_result: RunResult) -> None:
    assert render(run_result) == EXPECTED
    assert EXPECTED.isascii()


def test_a_file_gets_plain_text(run_result: RunResult) -> None:
    file = io.StringIO()
    print_table(run_result, file)
    assert file.getvalue() == EXPECTED


@pytest.mark.parametrize("columns", ["200", "72"])
def test_a_terminal_loses_no_number(run_result: RunResult, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow terminals wrap cells; they never cut them."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm-256color")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Terminal()
    print_table(run_result, file)
    for number in ("0.8123", "0.7623,", "0.8623]", "1,234,567", "1,235,567", "entity_f1"):
        assert number in file.getvalue()


def test_names_are_not_markup_and_missing_intervals_show(result_json: dict[str, Any]) -> None:
    result_json["experiment_id"] = "[bold]α"
    result_json["tasks"]["answers"]["metrics"]["values"]["accuracy"] = {"value": 0.9, "low": None, "high": None}
    text = render(RunResult.model_validate(result_json))
    assert text.startswith("[bold]?: S2, seed 42\n")
    assert "0.9000 [n/a]" in text
    assert "!" not in text
    assert text.isascii()
