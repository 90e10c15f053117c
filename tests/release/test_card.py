"""Cards: metadata that the Hub takes, numbers that are the run's, and nothing invented."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from local_hub import check_metadata

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.analysis import Analysis, Table, write_analysis
from hf_crosstask.evaluation.result import MatchResult, RunResult
from hf_crosstask.release import card_tables as tables
from hf_crosstask.release.bundle import Run, needs_all, open_run
from hf_crosstask.release.card import CardOptions, run_card
from hf_crosstask.release.command import Request, keep_records, prepare, shipped_card
from hf_crosstask.release.terms import common_identifier, restricted, terms_of
from hf_crosstask.tasks.registry import builtin_cards

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path for path in (ROOT / "recipes").glob("*.json") if not path.name.endswith(".schema.json"))
OWNER = "user"


@pytest.fixture
def run(released_run) -> Run:
    return open_run(released_run)


def test_the_hub_takes_every_card_of_a_release(hub, released_run, tmp_path) -> None:
    run, bundle = prepare(released_run, Request("me/quick"))
    cards = {path: content for path, content in bundle.files.items() if path.endswith("README.md")}
    assert set(cards) == {
        "README.md",
        "adapters/synthetic_ner/README.md",
        "adapters/synthetic_classification/README.md",
    }
    for content in cards.values():
        assert isinstance(content, bytes)
        (tmp_path / "README.md").write_bytes(content)
        card = ModelCard.load(tmp_path / "README.md")
        card.validate()  # asks the Hub
        assert card.data.library_name == "peft"
        assert card.data.license == "mit"
        for each in card.data.eval_results:
            value = run.result.tasks[each.dataset_name].metrics.values[each.metric_name].value
            assert each.metric_value == pytest.approx(value, abs=1e-6)
        assert "me/quick" in card.text
    (tmp_path / "README.md").write_bytes(cards["README.md"])
    whole = ModelCard.load(tmp_path / "README.md")
    assert {each.dataset_name for each in whole.data.eval_results} == set(run.result.tasks)
    assert "validate-yaml" in str(hub.log)


def test_the_page_holds_the_numbers_of_the_run(run) -> None:
    text = str(run_card(run, "me/quick"))
    for name, task in run.result.tasks.items():
        best = task.metrics.values[task.metrics.primary]
        assert f"| `{name}` | {task.metrics.primary} | {tables.score(best)}" in text
        assert f"| `{name}` | {task.tokens.planned:,} | {task.tokens.counted:,} | {task.tokens.padded:,} |" in text
    for expected in (
        "**Not for clinical use**",
        "equals what was planned",
        "No verdict of a study goes with this release",
        "No evaluation example was found",
        run.result.environment.versions["torch"],
        run.result.environment.hardware,
        "hf-crosstask train recipe.json",
        'load_released("me/quick", task="synthetic_relation")',
        run.result.fingerprints.data[:16],
    ):
        assert expected in text
    assert not re.search(r"\{\{|\{%|None|nan\b", text)


def test_a_card_of_one_task_names_the_others_whose_data_shaped_it(released_run) -> None:
    text = str(run_card(open_run(released_run, "synthetic_ner"), "me/ner"))
    assert "trained together with `synthetic_relation`, `synthetic_classification`" in " ".join(text.split())
    assert 'PeftModel.from_pretrained(base, "me/ner")' in text
    assert 'load_released("me/ner")' in text
    assert {each.dataset_name for each in ModelCard(text).data.eval_results} == {"synthetic_ner"}


def test_a_matched_run_proves_its_tokens(run) -> None:
    match = MatchResult(mode="total_tokens", reference="/home/somebody/outputs/s2", target=1000, difference=-3)
    sentence = tables.parity(run.result.model_copy(update={"match": match}))
    assert sentence.endswith("the run `s2` by total tokens: target 1,000, difference -3.")
    wrong = run.result.tokens.model_copy(update={"counted": 1})
    assert "DIFFERS FROM" in tables.parity(run.result.model_copy(update={"tokens": wrong}))


def test_leaks_and_purges_are_told(run) -> None:
    leak = {
        "train_task": "a",
        "evaluation_task": "b",
        "evaluation_split": "test",
        "leak": {"evaluation_examples": 7, "examples": []},
    }
    purged = {"before": {"a": 50}, "dropped": {"a": 5}, "pairs": []}

    def lines(**audit: object) -> str:
        found = {"policy": "allow", "within_task": "error", "leaks": [leak], "purged": None} | audit
        return " ".join(tables.leakage(run.result.model_copy(update={"audit": found})))

    assert "`a` training data overlaps with 7 test examples of `b`." in lines()
    assert "5 of 50 training examples of `a` were purged." in lines(purged=purged)
    assert "No evaluation example was found" in lines(leaks=[])
    assert tables.leakage(run.result.model_copy(update={"audit": None})) == [
        "The run was not audited for evaluation examples in its training data."
    ]


def test_restricted_corpora_are_named_and_the_licence_is_other(run) -> None:
    cards = builtin_cards()
    mixed = {
        "synthetic_ner": cards["synthetic_ner"],
        "ddi": cards["ddi"],
        "share": cards["semeval2014t7"],
        "hoc": cards["hoc"],
    }
    assert {
        name: "; ".join(terms_of(card).restrictions) for name, card in mixed.items() if terms_of(card).restrictions
    } == {
        "ddi": "non-commercial or research use only",
        "share": "credentialed: its data use agreement governs what is trained on it",
        "hoc": "copyleft: what is derived may have to carry the same licence",
    }
    assert common_identifier(mixed.values()) == "other"
    assert common_identifier([cards["ddi"]]) == "cc-by-nc-4.0"
    assert set(restricted(cards.values())) >= {name for name, card in cards.items() if card.access == "credentialed"}
    assert "synthetic_ner" not in restricted(cards.values())
    closed = {
        name: card.model_copy(update={"licence": "GPL-3.0", "access": "credentialed"})
        for name, card in run.cards.items()
    }
    text = str(run_card(replace(run, cards={**run.cards, "synthetic_ner": closed["synthetic_ner"]}), "me/quick"))
    assert "**Restricted corpora.**" in text
    assert "- `synthetic_ner`: GPL-3.0; credentialed" in text
    assert "license: other" in text
    assert check_metadata(text) == []


def test_what_a_user_writes_is_text_and_no_markup(run) -> None:
    recipe = run.recipe.model_copy(
        update={"description": "---\nlicense: evil\n---\n<script>alert(1)</script> | {{ 7*7 }}"}
    )
    text = str(run_card(replace(run, recipe=recipe), "me/quick"))
    assert "<script>" not in text
    assert "{{ 7*7 }}" in text
    assert ModelCard(text).data.license == "mit"


def test_verdicts_and_analyses_come_in_where_they_are_given(run, released_run, tmp_path) -> None:
    estimate = {"estimate": 0.0123, "low": -0.001, "high": 0.025}
    verdict = {
        "task": "synthetic_ner",
        "metric": "entity_f1",
        "exposure": None,
        "transfer": estimate,
        "p_adjusted": 0.04,
        "category": "undecided",
        "claim": "exploratory",
        "seeds": [1, 2],
        "sentence": "S2 minus S1 is <b>small</b>.",
    }
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps({"comparisons": [{"arm": "S2", "verdict": {"tasks": [verdict]}}]}))
    text = str(run_card(run, "me/quick", CardOptions(verdicts=file)))
    assert (
        "| `synthetic_ner` | entity_f1 | S2 |  | +0.0123 [-0.0010, +0.0250] | 0.04 | undecided | exploratory | 2 |"
        in text
    )
    assert "S2 minus S1 is &lt;b&gt;small&lt;/b&gt;." in text
    for content, why in (("{}", "lacks 'comparisons'"), ('{"comparisons": []}', "no verdict on"), ("x", "not a JSON")):
        file.write_text(content)
        with pytest.raises(InputError, match=why):
            run_card(run, "me/quick", CardOptions(verdicts=file))
    copy = Path(shutil.copytree(released_run, tmp_path / "run"))
    found = Table(name="ece", caption="Calibration error", columns=["task", "ECE"], rows=[["ner | a", 0.0312345]])
    analysis = Analysis(kind="calibration", title="Calibration", summary=["Too sure by <2 points."], tables=[found])
    write_analysis(copy / "analyses" / "calibration.json", analysis)
    quoting = Analysis(kind="errors", title="Errors", summary=["The text of a patient"])
    write_analysis(copy / "analyses" / "errors.json", quoting)
    text = str(run_card(open_run(copy), "me/quick"))
    assert "### Calibration" in text
    assert "| ner \\| a | 0.0312 |" in text
    assert "- Too sure by &lt;2 points." in text
    assert "patient" not in text.split("## Leakage")[1].split("## Intended use")[0]
    assert "Calibration was not analysed" not in text
    assert "Contamination was not analysed" in text


def test_kept_records_are_of_one_run(released_run, tmp_path) -> None:
    run, cards = tmp_path / "run", tmp_path / "cards"
    shutil.copytree(released_run, run)
    write_analysis(
        run / "analyses" / "calibration.json", Analysis(kind="calibration", title="Of that run", summary=["-"])
    )
    keep_records(run, cards)
    (kept,) = cards.iterdir()
    for again in (False, True):
        if again:
            keep_records(kept, cards)
        assert [path.name for path in (kept / "analyses").iterdir()] == ["calibration.json"]
    shutil.rmtree(run / "analyses")
    keep_records(run, cards)
    assert not list((kept / "analyses").iterdir())


@pytest.mark.parametrize("recipe", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_cards_are_what_the_template_makes(recipe) -> None:
    shipped = ROOT / "model_cards" / recipe.stem / "README.md"
    remedy = "rebuild them: hf-crosstask card model_cards --rebuild recipes"
    assert shipped.is_file(), remedy
    text = shipped.read_text(encoding="utf-8")
    assert text == shipped_card(ROOT / "model_cards", recipe, OWNER), remedy
    assert check_metadata(text) == []
    trained = (shipped.parent / "result.json").is_file()
    assert ("**Not released yet.**" in text) != trained
    assert ("model-index" in text) == trained
    if trained:
        RunResult.model_validate_json((shipped.parent / "result.json").read_bytes())


def test_what_a_task_needs_decides_what_is_downloaded() -> None:
    def needs(*adapters: str) -> bool:
        files = ["README.md", *(f"adapters/{path}/adapter_config.json" for path in adapters)]
        return needs_all({"files": files, "tasks": {"a": {}, "b": {}}}, "a")

    assert not needs("shared", "b")  # one adapter for all
    assert not needs("shared", "private_a", "private_b", "a", "b")  # one of its own
    assert needs("shared", "private_a", "private_b", "b")  # several that only the whole run can put together
