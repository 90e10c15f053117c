"""The command line: fast help, exit codes, flags and overrides in any order, and the launch script."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_crosstask import __version__, cli
from hf_crosstask.errors import InputError, Interrupted

ROOT = Path(__file__).parents[1]
QUICKSTART = str(ROOT / "recipes" / "quickstart.json")


def run(*command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False
    )


@pytest.fixture
def seen() -> Iterator[list[argparse.Namespace]]:
    """What a verb `probe`, with the arguments of `train`, was called with."""
    calls: list[argparse.Namespace] = []

    def probe(arguments: argparse.Namespace) -> int:
        calls.append(arguments)
        return 0

    cli.VERBS["probe"] = cli.Verb("keeps its arguments", cli.VERBS["train"].add_arguments, probe)
    yield calls
    del cli.VERBS["probe"]


def test_help_lists_every_verb_and_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "pydantic", "numpy")
    code = (
        "import sys\nfrom hf_crosstask import cli\n"
        "try:\n    cli.main(['--help'])\n"
        f"except SystemExit as stop:\n    print(stop.code, [name for name in {heavy!r} if name in sys.modules])"
    )
    done = run("-c", code)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    for name in cli.VERBS:
        assert f"  {name} " in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"hf-crosstask {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["r.json", "a.b=1", "c=d=e", "--resume"],
        ["--resume", "r.json", "a.b=1", "c=d=e"],
        ["r.json", "--resume", "a.b=1", "c=d=e"],
        ["r.json", "a.b=1", "--resume", "c=d=e"],
    ],
)
def test_flags_and_overrides_mix_in_any_order(seen: list[argparse.Namespace], arguments: list[str]) -> None:
    assert cli.main(["probe", *arguments]) == 0
    (parsed,) = seen
    assert (parsed.recipe, parsed.overrides) == ("r.json", ["a.b=1", "c=d=e"])
    assert (parsed.resume, parsed.dry_run) == (True, False)


@pytest.mark.parametrize("arguments", [["probe"], ["probe", "r.json", "--dry"], ["probe", "r.json", "--resume=3"]])
def test_wrong_usage_exits_with_2(seen: list[argparse.Namespace], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert seen == []


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err


def raising(error: Exception) -> cli.Verb:
    def fail(arguments: argparse.Namespace) -> int:
        raise error

    return cli.Verb("fails", lambda parser: None, fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("no such task"), 2, "error: no such task\n"),
        (Interrupted("time limit; resume with --resume"), 3, "stopped: time limit; resume with --resume\n"),
    ],
)
def test_errors_on_purpose_become_messages_and_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, message: str
) -> None:
    monkeypatch.setitem(cli.VERBS, "fail", raising(error))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == message
    monkeypatch.setenv("LOCAL_RANK", "1")  # another process of the same launch prints it already
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == ""


def test_any_other_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.VERBS, "fail", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["fail"])


def test_a_bad_recipe_is_one_message_without_importing_torch() -> None:
    code = "import sys; from hf_crosstask import cli; print(cli.main(sys.argv[1:]), 'torch' in sys.modules)"
    done = run("-c", code, "train", QUICKSTART, "training.sed=7", "--dry-run", "budget.steps=0")
    assert done.stdout == "2 False\n"
    assert done.stderr.splitlines() == [
        f"error: {QUICKSTART}: 2 problems",
        "  budget.steps: must be greater than 0, found 0 (from the command line)",
        "  training.sed: unknown key; did you mean 'seed'? (from the command line)",
    ]


def test_the_launch_script_is_the_train_verb_from_any_directory(tmp_path: Path) -> None:
    script = str(ROOT / "launch" / "train.py")
    done = run(script, QUICKSTART, "--resume", "name=not a name", cwd=tmp_path)
    assert done.returncode == 2
    assert "name: a name holds only letters" in done.stderr
    assert "Traceback" not in done.stderr
    assert "usage: launch/train.py" in run(script, "--help", cwd=tmp_path).stdout


def test_the_launch_script_says_when_the_package_is_missing(tmp_path: Path) -> None:
    done = run("-S", str(ROOT / "launch" / "train.py"), "x.json", cwd=tmp_path, PYTHONPATH="")
    assert done.returncode == 1
    assert "hf_crosstask is not installed" in done.stderr
    assert "Traceback" not in done.stderr
