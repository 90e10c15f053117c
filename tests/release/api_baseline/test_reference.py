"""The API runner against a real server: cached, capped, retried, resumed after `kill -9`, and its key kept secret."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask import cli
from hf_crosstask.release.api_baseline.reference import FILE_NAME, ApiReference

KEY = "sk-planted-secret-0123456789"
#: 2 tasks × 6 test examples × zero and two shots.
QUESTIONS = 24


def command(recipe: Path, output: Path, *more: str) -> list[str]:
    return ["api-baseline", str(recipe), "--model", "tiny", "--shots", "0", "2", "--output", str(output), *more]


def reference(output: Path) -> ApiReference:
    return ApiReference.model_validate_json((output / FILE_NAME).read_text(encoding="utf-8"))


def test_every_task_is_scored_and_a_second_run_asks_nothing(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, output = recipe_file(), tmp_path / "out"
    prices = ("--prompt-price", "1", "--completion-price", "2")
    assert cli.main(command(recipe, output, *prices, "--dry-run")) == 0
    assert server.requests == 0
    assert f"{QUESTIONS} requests (0 answered before)" in capsys.readouterr().out

    assert cli.main(command(recipe, output, *prices)) == 0
    assert server.requests == QUESTIONS
    first = reference(output)
    assert first.kind == "reference"
    assert "not a baseline" in first.note
    assert set(first.tasks) == {"synthetic_classification", "synthetic_ner"}
    for task in first.tasks.values():
        assert [each.shots for each in task.results] == [0, 2]
        assert [len(each.shot_ids) for each in task.results] == [0, 2]
        for each in task.results:
            assert task.primary in each.metrics
            assert each.metrics["parse_failure_rate"].value == each.parse_failure_rate
            assert each.examples == 6
            assert each.from_cache == 0
    results = [each for task in first.tasks.values() for each in task.results]
    assert first.spent["cost"] == pytest.approx(sum(each.cost for each in results))
    assert first.spent["requests"] == QUESTIONS
    printed = capsys.readouterr().out
    assert "a reference, not a baseline" in printed

    assert cli.main(command(recipe, output, *prices)) == 0
    assert server.requests == QUESTIONS  # nothing is paid for twice
    again = reference(output)
    assert [each.from_cache for task in again.tasks.values() for each in task.results] == [6] * 4
    scores = [[each.metrics for each in task.results] for task in first.tasks.values()]
    assert [[each.metrics for each in task.results] for task in again.tasks.values()] == scores


def test_few_shot_prompts_are_conversations_of_training_examples(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    assert cli.main(command(recipe_file({"name": "synthetic_classification"}), tmp_path / "out")) == 0
    lengths = sorted({len(body["messages"]) for body in server.bodies})
    assert lengths == [1, 5]
    longest = next(body["messages"] for body in server.bodies if len(body["messages"]) == 5)
    assert [message["role"] for message in longest] == ["user", "assistant", "user", "assistant", "user"]
    assert longest[1]["content"] != longest[3]["content"]  # two labels, where there are two
    assert all(body["temperature"] == 0 for body in server.bodies)


def test_no_cap_is_ever_exceeded(server: Any, recipe_file: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    recipe, output = recipe_file(), tmp_path / "out"
    assert cli.main(command(recipe, output, "--max-requests", "7")) == 3
    assert server.requests == 7
    assert "the budget is reached" in capsys.readouterr().err
    assert cli.main(command(recipe, output, "--max-requests", "7")) == 3
    assert server.requests == 7  # the cap counts what earlier runs sent
    assert not (output / FILE_NAME).exists()

    prices = ("--prompt-price", "1000", "--completion-price", "1000")
    dear = tmp_path / "dear"
    assert cli.main(command(recipe, dear, *prices, "--max-cost", "1.5")) == 3
    sent = server.requests - 7
    with sqlite3.connect(dear / "answers.sqlite") as database:
        (cost,) = database.execute("SELECT SUM(cost) FROM attempts").fetchone()
        (attempts,) = database.execute("SELECT COUNT(*) FROM attempts").fetchone()
    assert 0 < cost <= 1.5
    assert attempts == sent
    assert cli.main(command(recipe, tmp_path / "no-price", "--max-cost", "1")) == 2
    assert "--max-cost needs --prompt-price" in capsys.readouterr().err


def test_rate_limits_and_server_errors_are_waited_out(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    failures = {2: (429, {"Retry-After": "0"}), 5: (500, {"Retry-After": "0"}), 6: (503, {"Retry-After": "0"})}
    server.before = failures.get
    output = tmp_path / "out"
    assert cli.main(command(recipe_file(), output)) == 0
    assert server.requests == QUESTIONS + len(failures)
    assert set(server.answered.values()) == {2}  # the last message of each example: once in each number of shots
    assert reference(output).spent["requests"] == QUESTIONS + len(failures)


def test_refused_questions_count_as_unread_and_a_wrong_key_ends_the_run(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file({"name": "synthetic_classification"})
    server.before = lambda number: (400, {}) if number == 3 else None
    assert cli.main(command(recipe, tmp_path / "out", "--concurrency", "1")) == 0
    results = reference(tmp_path / "out").tasks["synthetic_classification"].results
    assert sum(each.refused for each in results) == 1
    assert results[0].parse_failure_rate >= 1 / 6

    for status, said in ((401, "the key is refused"), (404, "no such endpoint or model")):
        server.before = lambda number, status=status: (status, {})
        assert cli.main(command(recipe, tmp_path / str(status))) == 2
        error = capsys.readouterr().err
        assert said in error
        assert KEY not in error  # the server repeats it
        assert "***" in error


def test_a_killed_run_goes_on_without_a_repeated_call(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    recipe, output = recipe_file(), tmp_path / "out"
    reached, release = threading.Event(), threading.Event()

    def hold(number: int) -> tuple[int, dict[str, str]] | None:
        if number == 10:
            reached.set()
            release.wait(60)  # the client is killed while it waits; this one is never answered
            return 500, {}
        return None

    server.before = hold
    killed = subprocess.Popen(
        [sys.executable, "-m", "hf_crosstask.cli", *command(recipe, output, "--concurrency", "1")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert reached.wait(60)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    release.set()
    assert not (output / FILE_NAME).exists()
    assert server.answered.total() == 9

    server.before = lambda number: None
    assert cli.main(command(recipe, output)) == 0
    assert server.answered.total() == QUESTIONS  # each question exactly once, over both runs
    assert server.requests == QUESTIONS + 1  # and the one that was cut off
    assert reference(output).spent["requests"] == QUESTIONS + 1


def test_the_key_is_written_nowhere(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "out"
    assert cli.main(command(recipe_file({"name": "synthetic_classification"}), output)) == 0
    assert server.keys == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    for path in output.rglob("*"):
        assert KEY.encode() not in path.read_bytes()


def test_text_of_credentialed_corpora_is_not_sent(
    server: Any, recipe_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"the patient number {n} is well", "labels": "yes" if n % 2 else "no"} for n in range(8)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_file(
        {"name": "wards", "type": "classification", "reader": "jsonl", "path": str(tmp_path), "access": "credentialed",
         "labels": ["yes", "no"]}
    )  # fmt: skip
    assert cli.main(command(recipe, tmp_path / "out")) == 2
    assert "wards: text of corpora that need credentials may not be sent" in capsys.readouterr().err
    assert server.requests == 0
    assert cli.main(command(recipe, tmp_path / "out", "--send-credentialed-text")) == 0
    assert server.requests == 16


def test_without_an_endpoint_or_with_a_key_over_plain_http_there_is_one_clear_message(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert cli.main(command(recipe_file(), tmp_path / "out")) == 2
    assert "set OPENAI_BASE_URL" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_BASE_URL", "http://example.org/v1")
    assert cli.main(command(recipe_file(), tmp_path / "out")) == 2
    assert "use https" in capsys.readouterr().err
