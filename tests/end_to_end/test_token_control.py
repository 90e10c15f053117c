"""One task alone on exactly the tokens that a multi-task run saw."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from launching import RECIPES, SMALL

from hf_crosstask import load_run
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
            "parameters": None,
        }
        assert digest(run_dir / "tokenizer" / "tokenizer.json") == digest(Path("s2/tokenizer/tokenizer.json"))
        # The same base model too: the reference's own, by its weights.
        base, other = (json.loads((path / "result.json").read_text())["model"] for path in (run_dir, Path("s2")))
        assert base["loaded_from"] == other["loaded_from"]
        unique = result.tasks["synthetic_relation"].tokens.unique
        assert result.tasks["synthetic_relation"].epochs == pytest.approx(reference.tokens.counted / unique)
    _flops_are_matched(train)
    _parameters_are_matched(train)


def _flops_are_matched(train) -> None:
    """Within one example; the plan says so before training."""
    wanted = read_result("s2").flops
    assert wanted is not None
    assert wanted.planned == wanted.counted == sum(task.counted for task in wanted.tasks.values())
    command = [*controlled("s2"), 'budget={"match": {"run": "s2", "mode": "flops"}}', "output_dir=flops"]
    done = train(*command)
    assert done.code == 0, done.err
    result = read_result("flops")
    assert result.flops is not None
    assert result.match is not None
    assert (result.match.mode, result.match.target) == ("flops", wanted.counted)
    assert result.match.difference == result.flops.counted - wanted.counted
    assert abs(result.match.difference) <= result.flops.largest_example < 0.02 * wanted.counted
    assert f"matched to the {wanted.counted:,} of s2: {result.match.difference:+,}" in done.out
    assert result.tokens.counted == result.tokens.planned != read_result("s2").tokens.counted


def _parameters_are_matched(train) -> None:
    """Within one percent, and tokens as well; the adapter is a plain PEFT one."""
    wanted = read_result("s2")
    command = [*controlled("s2"), 'budget={"match": {"run": "s2", "mode": "parameters"}}', "output_dir=parameters"]
    done = train(*command)
    assert done.code == 0, done.err
    result = read_result("parameters")
    assert result.match is not None
    assert result.match.parameters is not None
    assert result.match.parameters.target == wanted.parameters.trainable
    assert result.match.parameters.reached == result.parameters.trainable
    assert abs(result.parameters.trainable / wanted.parameters.trainable - 1) <= 0.01
    assert result.parameters.active == {"synthetic_relation": result.parameters.trainable}
    assert wanted.parameters.active["synthetic_relation"] < wanted.parameters.trainable
    assert result.tokens.counted == wanted.tokens.counted
    assert (result.match.mode, result.match.difference) == ("parameters", 0)
    assert f"matched to the {wanted.parameters.trainable:,} total of the reference" in done.out
    assert load_run("parameters").model.parameter_counts()["trainable"] == result.parameters.trainable
    settings = json.loads(Path("parameters/adapters/shared/adapter_config.json").read_text())
    assert settings["rank_pattern"]
    assert settings["r"] >= 1


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
