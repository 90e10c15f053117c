"""One task alone on exactly the tokens that a multi-task run saw."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from launching import RECIPES, SMALL

from hf_crosstask.evaluation.result import read_result

S2 = [RECIPES / "quickstart.json", *SMALL]
TASK = '{"name": "synthetic_relation", "options": {"train": 120, "validation": 24, "test": 40}}'


def controlled(match: str | Path) -> list[str | Path]:
    """The recipe of the token-controlled twin, as a command line."""
    return [
        *(each for each in S2 if not str(each).startswith(("tasks=", "budget"))),
        "strategy=s1_token_controlled",
        f"tasks=[{TASK}]",
        f'budget={{"match": "{match}"}}',
    ]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_controlled_run_counts_exactly_the_tokens_of_its_reference(tmp_path: Path, train) -> None:
    assert train(*S2, "output_dir=s2").code == 0
    reference = read_result("s2")
    for number, match in enumerate(["s2", str(tmp_path / "work" / "s2" / "result.json")]):
        run_dir = Path(f"s1-{number}")
        done = train(*controlled(match), f"output_dir={run_dir}")
        assert done.code == 0, done.err
        result = read_result(run_dir)
        assert result.strategy == "S1_token_controlled"
        assert list(result.tasks) == ["synthetic_relation"]
        assert result.tokens.counted == result.tokens.planned == reference.tokens.counted
        assert result.tasks["synthetic_relation"].tokens.counted == reference.tokens.counted
        assert result.match is not None
        assert result.match.model_dump() == {
            "mode": "total_tokens",
            "reference": match,
            "target": reference.tokens.counted,
            "difference": 0,
        }
        assert digest(run_dir / "tokenizer" / "tokenizer.json") == digest(Path("s2/tokenizer/tokenizer.json"))
        # The same base model too: the reference's own, by its weights.
        base, other = (json.loads((path / "result.json").read_text())["model"] for path in (run_dir, Path("s2")))
        assert base["loaded_from"] == other["loaded_from"]
        unique = result.tasks["synthetic_relation"].tokens.unique
        assert result.tasks["synthetic_relation"].epochs == pytest.approx(reference.tokens.counted / unique)


def test_what_cannot_be_matched_is_refused(tmp_path: Path, train) -> None:
    work = tmp_path / "work"
    stopped = train(*S2, "output_dir=stopped", "training.time_limit_minutes=1e-6")
    assert stopped.code == 3
    assert train(*S2, "output_dir=s2", 'budget={"steps": 2}').code == 0
    original = json.loads((work / "s2" / "result.json").read_text())

    def refused(match: str) -> str:
        done = train(*controlled(match), "output_dir=s1")
        assert done.code == 2
        assert "Traceback" not in done.err
        assert done.err.startswith("error: ")
        assert not (work / "s1").exists()
        return done.err

    message = refused("stopped")
    assert "cannot match stopped, which is no finished run" in message
    assert "continue it with --resume" in message

    message = refused("nowhere")
    assert "cannot match nowhere" in message
    assert "no such file" in message

    edited = json.loads(json.dumps(original))
    edited["tokens"]["counted"] += 1
    edited["tasks"]["synthetic_ner"]["tokens"]["counted"] += 1
    (work / "s2" / "result.json").write_text(json.dumps(edited))
    planned = original["tokens"]["planned"]
    message = refused("s2")
    assert f"the run was planned with {planned} tokens but counted {planned + 1}" in message
    assert "Run it again" in message

    edited = json.loads(json.dumps(original))
    edited["tokens"] |= {"counted": planned + 1, "planned": planned + 1}
    (work / "s2" / "result.json").write_text(json.dumps(edited))
    assert f"tokens.counted: is {planned + 1}, but the tasks sum to {planned}" in refused("s2")

    (work / "s2" / "result.json").write_text(json.dumps(original | {"status": "failed"}))
    assert "the run is failed, not finished" in refused("s2")
