"""Every credentialed or large task on invented files of its original format: trained, scored officially, written back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from gated_corpora import write_all

from hf_crosstask.evaluation.official import ade2018, anafora, brat, cmed2022, cqa, share2014
from hf_crosstask.evaluation.official import share2015 as official2015
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.evaluation.result import read_result
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task
from hf_crosstask.tasks.readers.anafora import write_anafora
from hf_crosstask.tasks.readers.brat import write_brat
from hf_crosstask.tasks.readers.cqa import write_relevancy
from hf_crosstask.tasks.readers.share2014 import write_share2014
from hf_crosstask.tasks.readers.share2015 import write_share2015
from hf_crosstask.tasks.registry import builtin_cards

GROUPS = (
    "semeval2014t7",
    "semeval2015t14",
    "semeval2016t12",
    "semeval2017t3",
    "n2c2_",
    "pubmed_rct",
    "medqa",
    "medmcqa",
)
#: What the official evaluation of each task is headed by, and what else must be there.
OFFICIAL: dict[str, tuple[str, ...]] = {
    "semeval2014t7": ("entity_f1", "relaxed_f1", "cui_accuracy", "cui_accuracy_relaxed"),
    "semeval2015t14": ("task1_strict_f1", "task1_relaxed_f1", "task2_f1_weighted_accuracy"),
    "semeval2016t12": ("es_f1", "ts_f1", "ta_class_f1", "ea_modality_f1", "ea_degree_f1", "ea_polarity_f1", "dr_f1"),
    "semeval2016t12_contains": ("cr_f1", "cr_exact_f1", "cr_precision", "cr_recall"),
    "semeval2017t3": ("map", "avg_rec", "mrr", "precision", "recall", "f1", "accuracy"),
    "semeval2017t3_b": ("map", "avg_rec", "mrr", "precision", "recall", "f1", "accuracy"),
    "semeval2017t3_c": ("map", "avg_rec", "mrr", "precision", "recall", "f1", "accuracy"),
    "n2c2_2018_ade": ("lenient_f1", "strict_f1", "lenient_precision", "strict_recall"),
    "n2c2_2018_ade_relation": ("lenient_f1", "strict_f1", "micro_f1"),
    "n2c2_2022_cmed": (
        "strict_event_f1",
        "strict_drug_f1",
        "lenient_drug_f1",
        "strict_combined_f1",
        "strict_action_f1",
    ),
    "medqa": ("accuracy",),
    "medmcqa": ("accuracy",),
    "pubmed_rct": ("micro_f1",),
}
#: Attributes that differ from another task's in nothing but their values: read, not trained.
ALIKE = {f"semeval2016t12_{name}" for name in ("class", "modality", "degree", "type")}
ALIKE |= {f"n2c2_2022_cmed_{name}" for name in ("negation", "temporality", "certainty", "actor")}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("gated"))


def recipe(data: Path, tasks: list[Any], **sections: Any) -> str:
    content: dict[str, Any] = {
        "name": "gated",
        "tasks": tasks,
        "model": {"name_or_path": "tiny:bert", "max_length": 96, "stride": 16},
        "strategy": {"name": "S2"},
        "budget": {"steps": len(tasks)},
        "mixing": {"sampling": "uniform"},
        "training": {"tokens_per_step": 256, "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"},
        "audit": {"policy": "allow"},
        "evaluation": {"bootstrap_replicates": 100},
        "data_dir": str(data),
        "output_dir": "run",
    }
    for section, values in sections.items():
        content[section] = content[section] | values
    Path("gated.json").write_text(json.dumps(content))
    return "gated.json"


def checked(name: str) -> dict[str, float]:
    """The values of a task in the result: all that its card names, and those of its predictions file."""
    task = read_result("run").tasks[name]
    values = {metric: value.value for metric, value in task.metrics.values.items()}
    card = builtin_cards()[name]
    assert task.metrics.primary == card.primary_metric
    assert {card.primary_metric, *card.secondary_metrics} <= values.keys(), name
    predictions = Predictions.from_parquet(f"run/predictions/{name}.parquet")
    assert scoring_for(predictions.target).score(predictions) == pytest.approx(values)
    primary = task.metrics.values[card.primary_metric]
    assert primary.low is not None
    assert primary.high is not None
    assert task.tokens.counted == task.tokens.planned > 0
    return values


def test_every_task_trains_and_is_scored_officially(corpora: Path, train: Callable[..., Any]) -> None:
    every = {name for name in builtin_cards() if name.startswith(GROUPS)}
    names = sorted(every - ALIKE)
    assert set(OFFICIAL) <= set(names)
    assert len(names) == 17
    done = train(recipe(corpora, names))
    assert done.code == 0, done.err
    for name in names:
        values = checked(name)
        assert set(OFFICIAL.get(name, ("accuracy", "macro_f1"))) <= values.keys(), name
        assert builtin_cards()[name].primary_metric == OFFICIAL.get(name, ("accuracy",))[0]
    result = read_result("run")
    assert result.tasks["semeval2016t12_contains"].lost_gold["test"] == {"CONTAINS": 3}
    assert result.tasks["semeval2016t12"].dropped["test"]["entities of type SECTIONTIME"] == 3
    found = Predictions.from_parquet("run/predictions/semeval2016t12.parquet")
    assert {entity.type for row in found.gold for entity in row} == {"EVENT", "TIMEX3"}


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_further_attributes_are_read(corpora: Path, name: str) -> None:
    data = load_task(TaskSpec(name=name), data_dir=corpora)
    for examples in data.splits.values():
        assert len({label for (label,) in examples["labels"]}) == 2


def test_decoders_generate_and_weigh(corpora: Path, train: Callable[..., Any]) -> None:
    """The instruction tasks, a likelihood, and official metrics of what was generated."""
    tasks = [
        {"name": "medtext", "max_new_tokens": 4},
        {"name": "medical_qa", "max_new_tokens": 4},
        {"name": "medqa", "formulation": "likelihood"},
        {"name": "medmcqa", "formulation": "generative"},
        {"name": "n2c2_2018_ade", "formulation": "generative", "max_new_tokens": 4},
        {"name": "n2c2_2018_ade_relation", "formulation": "generative", "max_examples": {"test": 6}},
    ]
    model = {"name_or_path": "tiny:qwen2", "max_length": 320}
    done = train(recipe(corpora, tasks, model=model, training={"tokens_per_step": 1024}, budget={"steps": 6}))
    assert done.code == 0, done.err
    for task in tasks:
        values = checked(str(task["name"]))
        assert ("parse_failure_rate" in values) == (task["name"] != "medqa")
    assert {"rouge_l", "bleu", "perplexity"} <= checked("medtext").keys()


Documents = Mapping[str, str]


def _texts(folder: Path, suffix: str) -> Documents:
    return {path.name: path.read_bytes().decode() for path in sorted(folder.rglob(f"*{suffix}"))}


def _parsed(parse: Callable[[str], Any]) -> Callable[[Documents], Any]:
    return lambda texts: {name: parse(text) for name, text in texts.items()}


def _lines(parse: Callable[[str], list[Any]]) -> Callable[[Documents], Any]:
    return lambda texts: [line for text in texts.values() for line in parse(text)]


#: Task to its test folder, file suffix, writer, reader of the official scorer, scorer and what it must give.
ROUND_TRIPS: dict[str, tuple[str, str, Callable[..., None], Callable[[Documents], Any], Any, tuple[str, ...]]] = {
    "semeval2014t7": (
        "semeval2014_task7/test", ".pipe", write_share2014, _lines(share2014.parse), share2014.score, ("",)
    ),
    "semeval2015t14": (
        "semeval2015_task14/data/test", ".pipe", write_share2015, _lines(official2015.parse),
        lambda g, p: official2015.score_task1(g, p) | official2015.score_task2(g, p), ("",),
    ),
    "semeval2016t12": (
        "semeval2016_task12_thyme/Test", ".xml", lambda rows, to: write_anafora(rows, to, annotator="gold"),
        _parsed(anafora.parse), anafora.score, ("",),
    ),
    "n2c2_2018_ade": (
        "n2c2_2018_track2/test", ".ann", write_brat, _parsed(brat.parse), ade2018.score,
        ("strict_entity_f1", "lenient_entity_f1", "strict_relation_f1", "lenient_relation_f1"),
    ),
    "n2c2_2022_cmed": (
        "n2c2_2022_track1/test", ".ann", write_brat, _parsed(brat.parse), cmed2022.score,
        ("strict_drug_f1", "strict_event_f1", "strict_combined_f1", "lenient_attribute_f1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ROUND_TRIPS))
def test_what_is_read_and_written_scores_one(corpora: Path, tmp_path: Path, name: str) -> None:
    folder, suffix, write, parse, score, metrics = ROUND_TRIPS[name]
    spec = TaskSpec(name=name)
    if name == "semeval2016t12":  # with the anchors, which the task's own examples leave out
        spec = TaskSpec(name=name, labels=("EVENT", "TIMEX3", "SECTIONTIME", "DOCTIME"), options={"types": {}})
    write(list(load_task(spec, data_dir=corpora).splits["test"]), tmp_path)
    gold, written = parse(_texts(corpora / folder, suffix)), parse(_texts(tmp_path, suffix))
    assert len(gold) == len(written) > 0
    values = score(gold, written)
    assert all(values[metric] == 1.0 for metric in values if metrics == ("",) or metric in metrics), values
    damaged = parse(dict.fromkeys(_texts(tmp_path, suffix), "" if suffix != ".xml" else "<data/>"))
    assert min(score(gold, damaged)[metric] for metric in values if metrics == ("",) or metric in metrics) == 0.0


@pytest.mark.parametrize(
    ("name", "subtask"), [("semeval2017t3", "A"), ("semeval2017t3_b", "B"), ("semeval2017t3_c", "C")]
)
def test_a_perfect_ranking_scores_one(corpora: Path, tmp_path: Path, name: str, subtask: str) -> None:
    rows = list(load_task(TaskSpec(name=name), data_dir=corpora).splits["test"])
    write_relevancy(rows, tmp_path / "mine.pred", [row["score"] for row in rows])
    (gold,) = _texts(corpora / "semeval_cqa", f".subtask{subtask}.relevancy").values()
    values = cqa.score(cqa.parse(gold), cqa.parse((tmp_path / "mine.pred").read_text()))
    assert values == dict.fromkeys(("map", "avg_rec", "mrr", "precision", "recall", "f1", "accuracy"), 1.0)
