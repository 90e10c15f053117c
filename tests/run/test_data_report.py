"""Data at a glance: counts, lengths, overlaps, tables, figures, and the verb `data`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hf_crosstask import cli
from hf_crosstask.data_report import DataReport, RecipeTokenizer, build_report, tables, write_figures
from hf_crosstask.data_report.counts import NONE, balance, balance_warnings, count_split
from hf_crosstask.data_report.lengths import summarize, summarize_tokens, token_lengths, word_lengths
from hf_crosstask.data_report.overlap import normal_name, shared_names, vocabulary_overlap
from hf_crosstask.data_report.published import published_counts
from hf_crosstask.encoding import encode_task
from hf_crosstask.errors import InputError
from hf_crosstask.models.tiny_tokenizer import train_tokenizer
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.schema import make_entity, make_example, to_dataset

SENTENCES = [
    "The miller's daughter keeps bees behind the old windmill.",
    "Bees dislike smoke, wind and grey horses (or so the miller says).",
    "A grey horse once drank all of the honey-water before noon!",
    "Nobody sold honey in the winter of the long frost.",
]
Write = Callable[[str, Any], Path]


def card(type: str, **fields: Any) -> TaskCard:
    return TaskCard(**{"name": type, "type": type, "level": 1, "primary_metric": "any", "reader": "jsonl", **fields})


def example(number: int, text: str = SENTENCES[0], *, group: str | None = None, **fields: Any) -> dict[str, Any]:
    return make_example(f"e{number}", "t", text, split_group=group or f"d{number}", **fields)


def entity(id: str, type: str, text: str, part: str) -> dict[str, Any]:
    start = text.index(part)
    return make_entity(id, type, [(start, start + len(part))], [part])


def candidate(number: int, pair: tuple[str, str], types: Sequence[str], group: str = "d") -> dict[str, Any]:
    """A candidate pair of mentions of the first sentence."""
    names = {"A": "miller", "B": "daughter", "C": "bees"}
    return example(
        number,
        group=group,
        entities=[entity(name, "Thing", SENTENCES[0], names[name]) for name in pair],
        relations=[
            {"id": f"R{n}", "type": type, "head": pair[0], "tail": pair[1]} for n, type in enumerate(types, start=1)
        ],
    )


def classified(labels: Sequence[str], texts: Sequence[str] = SENTENCES) -> Any:
    return to_dataset(
        [example(number, texts[number % len(texts)], labels=[label]) for number, label in enumerate(labels)]
    )


# Lengths


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=400))
def test_percentiles_are_the_shortest_length_that_covers_the_share(lengths: list[int]) -> None:
    found = summarize(np.array(lengths))
    for percent, value in enumerate(found.quantiles):
        assert 100 * sum(length <= value for length in lengths) >= percent * len(lengths)
        assert 100 * sum(length < value for length in lengths) < percent * len(lengths) or value == min(lengths)
    assert (found.p50, found.p99, found.max) == (found.quantiles[50], found.quantiles[99], max(lengths))
    assert found.total == sum(lengths)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=400), st.integers(8, 4096), st.integers(8, 4096))
def test_the_suggested_max_length_covers_99_of_100_examples(lengths: list[int], longest: int, recipe: int) -> None:
    found = summarize_tokens(np.array(lengths), longest=longest, max_length=recipe)
    suggested = found.suggested_max_length
    fitting = sum(length <= suggested for length in lengths)
    assert found.covered == pytest.approx(fitting / len(lengths))
    assert found.longer_than_recipe == sum(length > recipe for length in lengths)
    assert suggested <= longest
    if suggested < longest:
        assert suggested % 32 == 0
        assert 100 * fitting >= 99 * len(lengths)
    # No smaller multiple of 32 would do.
    shorter = (suggested - 1) // 32 * 32
    assert 100 * sum(length <= shorter for length in lengths) < 99 * len(lengths)


def test_words_are_those_of_the_cards_segmentation() -> None:
    rows = to_dataset([example(0, "bees, wind"), example(1, "bees, wind", text_pair="honey-water")])
    assert word_lengths(rows, card("classification")).tolist() == [3, 6]
    assert word_lengths(rows, card("classification", segmentation="whitespace")).tolist() == [2, 3]


TASKS: dict[str, tuple[TaskCard, list[dict[str, Any]]]] = {
    "ner": (
        card("ner", labels=("Animal",)),
        [example(n, text, entities=[entity("T", "Animal", text, "e")]) for n, text in enumerate(SENTENCES)],
    ),
    "relation": (
        card("relation", labels=("none", "owns"), negative_label="none"),
        [candidate(0, ("A", "B"), ["none"]), candidate(1, ("A", "C"), ["owns"])],
    ),
    "classification": (
        card("classification", labels=("y", "n")),
        [
            example(n, text, text_pair=SENTENCES[0] if n % 2 else None, labels=["y"])
            for n, text in enumerate(SENTENCES)
        ],
    ),
    "multilabel": (
        card("multilabel", labels=("y", "n")),
        [example(n, text, labels=["y", "n"][: n % 3]) for n, text in enumerate(SENTENCES)],
    ),
    "similarity": (
        card("similarity"),
        [example(n, text, text_pair=SENTENCES[0], score=0.5) for n, text in enumerate(SENTENCES)],
    ),
    "ranking": (
        card("ranking", labels=("false", "true")),
        [
            example(
                n,
                SENTENCES[n // 2],
                text_pair=f"{text} {text}",
                group_id=f"q{n // 2}",
                rank=n,
                score=1.0,
                labels=["true"],
            )
            for n, text in enumerate(SENTENCES)
        ],
    ),
    "multiple_choice": (
        card("multiple_choice"),
        [example(n, text, choices=["honey", SENTENCES[n - 1]], answer="honey") for n, text in enumerate(SENTENCES)],
    ),
}


TASKS["span_ner"] = (card("span_ner", labels=("Animal",)), TASKS["ner"][1])
TASKS["generation"] = (card("generation"), [example(n, text, answer="honey") for n, text in enumerate(SENTENCES)])
TASKS |= {
    f"{form} {type}": (TASKS[type][0].model_copy(update={"formulation": form}), TASKS[type][1])
    for type, form in (
        ("ner", "generative"),
        ("relation", "generative"),
        ("multiple_choice", "generative"),
        ("multiple_choice", "likelihood"),
    )
}


@pytest.mark.parametrize("family", ["bert", "qwen2", "llama"])
@pytest.mark.parametrize("name", TASKS)
def test_token_lengths_are_those_of_the_encoded_examples(name: str, family: str) -> None:
    task, rows = TASKS[name]
    tokenizer, causal = train_tokenizer(family, SENTENCES), family != "bert"
    if task.formulation != "head" and not causal:
        pytest.skip("needs a decoder")
    encoded = encode_task(to_dataset(rows), task, tokenizer, max_length=1024, causal=causal).dataset["input_ids"][:]
    if task.type == "multiple_choice" and task.formulation != "generative":
        expected = [max(map(len, row)) for row in encoded]
    elif task.type == "ranking":
        expected = [len(sequence) for row in encoded for sequence in row]
    else:
        expected = [len(row) for row in encoded]
    lengths = token_lengths(to_dataset(rows), task, tokenizer, causal=causal)
    assert sorted(lengths.tolist()) == sorted(expected)
    assert len(lengths) == len(rows)
    assert lengths.min() > 5


def test_examples_longer_than_the_model_are_counted_whole() -> None:
    tokenizer = train_tokenizer("bert", SENTENCES)
    rows = to_dataset([example(0, " ".join(SENTENCES * 200), labels=["y"])])
    (length,) = token_lengths(rows, card("classification", labels=("y", "n")), tokenizer, causal=False)
    assert length > 4 * tokenizer.model_max_length


def test_an_encoder_cannot_generate() -> None:
    rows = to_dataset([example(0, answer="yes")])
    with pytest.raises(InputError, match="needs a decoder"):
        token_lengths(rows, card("generation"), train_tokenizer("bert", SENTENCES), causal=False)


# Counts


def test_entities_of_an_entity_task() -> None:
    text = SENTENCES[0]
    task = card("ner", labels=("Person", "Animal", "Place"))
    rows = to_dataset(
        [
            example(
                0, group="d", entities=[entity("T1", "Person", text, "miller"), entity("T2", "Animal", text, "bees")]
            ),
            example(1, group="d", entities=[entity("T1", "Person", text, "miller")]),
            example(2),
        ]
    )
    counted = count_split(rows, task)
    assert (counted.examples, len(counted.documents), counted.entities) == (3, 2, 3)
    found = balance(counted, task)
    assert found is not None
    assert found.unit == "entities"
    assert {label: (each.count, each.share) for label, each in found.labels.items()} == {
        "Person": (2, pytest.approx(2 / 3)),
        "Animal": (1, pytest.approx(1 / 3)),
        "Place": (0, 0.0),
    }


def test_mentions_that_candidate_pairs_share_count_once() -> None:
    task = card("relation", labels=("none", "owns", "likes"), negative_label="none")
    rows = [
        candidate(0, ("A", "B"), ["none"]),
        candidate(1, ("A", "C"), ["owns", "likes"]),
        candidate(2, ("B", "C"), ["none"]),
        candidate(3, ("A", "B"), ["none"], group="other"),
    ]
    counted = count_split(to_dataset(rows), task)
    assert (counted.entities, counted.relations, counted.labels) == (5, 2, 0)
    assert counted.by_label == {"none": 3, "owns": 1, "likes": 1}


def test_balance_of_label_sets_choices_and_scores() -> None:
    multilabel = card("multilabel", labels=("b", "a"))
    counted = count_split(
        to_dataset([example(0, labels=["a"]), example(1, labels=["a", "b"]), example(2)]), multilabel
    )
    assert counted.by_label == {"b": 1, "a": 2, NONE: 1}
    found = balance(counted, multilabel)
    assert found is not None
    assert [round(each.share, 3) for each in found.labels.values()] == [
        0.333,
        0.667,
        0.333,
    ]  # of examples: overlapping
    choices = [example(n, choices=["x", "y", "z"][: n + 2], answer="y") for n in range(2)]
    assert count_split(to_dataset(choices), card("multiple_choice")).by_label == {
        "choice 1": 0,
        "choice 2": 2,
        "choice 3": 0,
    }
    scores = [example(n, text_pair="y", score=score) for n, score in enumerate([0.0, 0.8, 3.99, 4.0])]
    similar = count_split(to_dataset(scores), card("similarity", score_range=(0.0, 4.0)))
    assert similar.by_label == {"0 to 0.8": 1, "0.8 to 1.6": 1, "1.6 to 2.4": 0, "2.4 to 3.2": 0, "3.2 to 4": 2}
    generated = card("generation")
    assert balance(count_split(to_dataset([example(0, answer="a")]), generated), generated) is None


def test_warnings_of_a_class_that_dominates_and_of_one_never_trained() -> None:
    task = card("classification", labels=("yes", "no", "maybe"))
    splits = {"train": classified(["yes"] * 19 + ["no"]), "test": classified(["yes"] * 9 + ["maybe"])}
    found = list(
        balance_warnings(task, {split: balance(count_split(rows, task), task) for split, rows in splits.items()})
    )
    assert len(found) == 2
    assert "classification/train: 95.0% of the examples are 'yes'" in found[0]  # 90 % in test is not more than 90 %
    assert found[1] == "classification: label 'maybe' does not occur in training (1 in test)"
    single = card("ner", labels=("Animal",))
    rows = to_dataset([example(0, entities=[entity("T", "Animal", SENTENCES[0], "bees")])])
    assert not list(balance_warnings(single, {"train": balance(count_split(rows, single), single)}))


# Published counts


def test_published_counts_against_what_was_read() -> None:
    published = {
        "train": {"examples": 3, "yes": 2, "blurb_examples": 7},
        "train+test": {"examples": 6, "documents": 5, "no": 3},
        "validation": {"examples": 1},
    }
    task = card("classification", labels=("yes", "no"), published_counts=published)
    data = TaskData(
        task,
        {"train": classified(["yes", "yes", "no"]), "test": classified(["no", "yes"])},
        lost_gold={"test": {"no": 1}},
        dropped={"test": {"empty lines": 4}},
    )
    found = published_counts(data, {split: count_split(rows, task) for split, rows in data.splits.items()})
    assert {(each.split, each.name): (each.read, each.lost, each.difference, each.note) for each in found} == {
        ("train", "examples"): (3, 0, 0, ""),
        ("train", "yes"): (2, 0, 0, ""),
        ("train", "blurb_examples"): (None, 0, None, "not counted here"),
        ("train+test", "examples"): (5, 0, -1, "the reader drops: empty lines"),
        # d0 and d1 are in both splits
        ("train+test", "documents"): (
            3,
            0,
            -2,
            "documents without an example are not seen; the reader drops: empty lines",
        ),
        ("train+test", "no"): (2, 1, 0, ""),
        ("validation", "examples"): (None, 0, None, "no validation split"),
    }


def test_lost_gold_belongs_to_the_published_relations() -> None:
    published = {"test": {"relations": 3, "owns": 2, "entities": 9}}
    task = card("relation", labels=("none", "owns", "likes"), negative_label="none", published_counts=published)
    rows = to_dataset([candidate(0, ("A", "B"), ["owns"]), candidate(1, ("A", "C"), ["none"])])
    data = TaskData(task, {"test": rows}, lost_gold={"test": {"owns": 1, "likes": 1}})
    found = {each.name: each for each in published_counts(data, {"test": count_split(rows, task)})}
    assert (found["relations"].read, found["relations"].lost, found["relations"].difference) == (1, 2, 0)
    assert (found["owns"].read, found["owns"].lost, found["owns"].difference) == (1, 1, 0)
    assert (found["entities"].difference, found["entities"].note) == (-6, "mentions in no candidate pair are not seen")


def test_a_sample_is_not_compared_with_published_counts() -> None:
    task = card("classification", labels=("yes", "no"), published_counts={"train": {"examples": 900}})
    data = TaskData(task, {"train": classified(["yes", "no"])}, dropped={"train": {"left out by max_examples": 898}})
    (found,) = published_counts(data, {"train": count_split(data.splits["train"], task)})
    assert (found.read, found.difference) == (None, None)
    assert "max_examples" in found.note


# Overlaps


def test_vocabulary_by_hand() -> None:
    def texts(*found: str) -> Any:
        return to_dataset([example(number, text) for number, text in enumerate(found)])

    found = vocabulary_overlap(
        {
            "a": {"train": texts("Bees, bees; wind", "WIND honey"), "test": texts("bees frost mill rye")},
            "b": {"train": texts("bees frost"), "validation": texts("honey frost")},
            "c": {"test": texts("mill")},
        }
    )
    a, b, c = (found.tasks[task] for task in "abc")
    assert (a.train, a.evaluation_split, a.evaluation) == (3, "test", 4)
    assert (a.own, a.others, a.either) == (1 / 4, 2 / 4, 2 / 4)
    assert (b.evaluation_split, b.own, b.others, b.either) == ("validation", 1 / 2, 1 / 2, 1.0)
    assert (c.train, c.own, c.others, c.either) == (0, None, 0.0, 0.0)
    assert found.jaccard["a"] == {"a": 1.0, "b": 1 / 4, "c": None}
    assert found.jaccard["b"]["a"] == found.jaccard["a"]["b"]
    assert found.coverage["a"] == {"a": 1 / 4, "b": 2 / 4, "c": None}


def test_pairs_and_choices_are_part_of_the_vocabulary() -> None:
    rows = to_dataset([example(0, "bees", text_pair="wind", choices=["honey", "bees"], answer="honey")])
    assert vocabulary_overlap({"a": {"train": rows}}).tasks["a"].train == 3


def test_names_are_compared_as_spelled_and_normalised() -> None:
    (found,) = shared_names({"a": {"GENE", "Cell_type", "x"}, "b": {"cell type", "GENE", "y", "z"}})
    assert found.tasks == ("a", "b")
    assert found.exact == ("GENE",)
    assert found.normalised == (("Cell_type", "cell type"),)
    assert found.jaccard == pytest.approx(2 / 5)
    assert normal_name("CPR:3") == "cpr3"
    assert normal_name("+") == "+"


# The report


def built(tokenizer: bool = True, **data: TaskData) -> DataReport:
    found = train_tokenizer("bert", SENTENCES)
    use = RecipeTokenizer("tiny:bert", found, causal=False, longest=1024, max_length=24)
    if not tokenizer:
        return build_report(data, recipe="r", tokenizer=None, problem="no network")
    return build_report(data, recipe="r", tokenizer=use)


def two_tasks() -> dict[str, TaskData]:
    owns = card("relation", labels=("[none]", "owns"), negative_label="[none]")
    pairs = [candidate(n, ("A", "B"), ["owns" if n % 3 else "[none]"]) for n in range(9)]
    yes = card("classification", labels=("[b]yes[/b]", "no :bee: $x$"), published_counts={"train": {"examples": 5}})
    answers = classified(["[b]yes[/b]", "no :bee: $x$"] * 3)
    return {
        "relation": TaskData(
            owns, {"train": to_dataset(pairs), "test": to_dataset(pairs[:4])}, lost_gold={"test": {"owns": 2}}
        ),
        "classification": TaskData(yes, {"train": answers, "test": answers}, dropped={"train": {"comments": 1}}),
    }


def plain(report: DataReport) -> str:
    output = io.StringIO()
    console = Console(file=output, width=400, markup=False, emoji=False, highlight=False)
    for table in tables(report):
        console.print(table)
    return output.getvalue()


def test_the_report_survives_json_and_adds_up() -> None:
    report = built(**two_tasks())
    assert DataReport.model_validate_json(report.model_dump_json()) == report
    assert report.schema_version == 1
    for found in report.tasks.values():
        assert found.tokens is not None
        assert found.tokens.total == sum(split.tokens.total for split in found.splits.values() if split.tokens)
    suggestions = [found.tokens.suggested_max_length for found in report.tasks.values() if found.tokens]
    assert report.suggested_max_length == max(suggestions) == 64
    assert any("longer than model.max_length (24)" in warning for warning in report.warnings)
    (shared,) = report.shared_names
    assert (shared.exact, shared.normalised) == ((), ())


def test_a_max_length_that_the_model_cannot_raise_is_said_to_be_one() -> None:
    tokenizer = train_tokenizer("bert", SENTENCES)
    use = RecipeTokenizer("small", tokenizer, causal=False, longest=12, max_length=12)
    report = build_report({"c": two_tasks()["classification"]}, recipe="r", tokenizer=use)
    assert report.suggested_max_length == 12
    assert (
        "c: 100.0% of the examples are longer than model.max_length (12); the model takes no more" in report.warnings
    )


def test_negative_classes_are_no_shared_names() -> None:
    tasks = two_tasks()
    data = tasks["relation"]
    other = TaskData(data.card.model_copy(update={"name": "other"}), data.splits)
    (shared,) = built(first=data, second=other).shared_names
    assert shared.exact == ("Thing", "owns")


def test_tables_show_names_as_they_are() -> None:
    shown = plain(built(**two_tasks()))
    for text in ("[b]yes[/b]", "no :bee: $x$", "[none]", "relation/test", "lost gold: owns", "DIFFERS", "comments"):
        assert text in shown
    assert "\x1b" not in shown
    assert "3 (33.3%)" in shown  # [none] in training


def test_without_a_tokenizer_lengths_are_in_words_and_the_reason_is_shown(tmp_path: Path) -> None:
    report = built(tokenizer=False, **two_tasks())
    assert report.suggested_max_length is None
    assert report.tasks["relation"].splits["train"].tokens is None
    shown = plain(report)
    assert "no lengths in tokens: no network" in shown
    assert "Length in words" in shown
    assert "Length in tokens" not in shown
    assert tmp_path / "token_lengths.png" in write_figures(report, tmp_path)


def test_figures_are_whole_files_and_repeat_to_the_byte(tmp_path: Path) -> None:
    report = built(**two_tasks())
    files = write_figures(report, tmp_path / "a")
    assert {file.name for file in files} == {
        f"{name}.{kind}"
        for name in ("token_lengths", "label_balance", "vocabulary_overlap")
        for kind in ("png", "pdf")
    }
    assert set(files) == set((tmp_path / "a").iterdir())
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"%PDF")
        assert file.stat().st_size > 5000
    again = write_figures(report, tmp_path / "b")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_one_task_has_no_overlap_and_many_labels_fill_several_pages(tmp_path: Path) -> None:
    labels = [f"label {number}" for number in range(20)]
    tasks = {
        name: TaskData(card("classification", name=name, labels=tuple(labels)), {"train": classified(labels)})
        for name in ("a", "b")
    }
    names = {file.name for file in write_figures(built(**tasks), tmp_path / "two")}
    assert {"label_balance.png", "label_balance_2.png", "vocabulary_overlap.png"} < names
    names = {file.name for file in write_figures(built(a=tasks["a"]), tmp_path / "one")}
    assert "vocabulary_overlap.png" not in names


# The verb


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Synthetic entities and relations, and a task of the user's own that is badly out of balance."""
    folder = tmp_path / "mood"
    folder.mkdir()
    for split, size in (("train", 20), ("test", 10)):
        rows = [(f"{SENTENCES[n % 4]} {split} {n}", "glum" if n == 3 else "gay") for n in range(size)]
        with (folder / f"{split}.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows([("text", "label"), *rows])
    sizes = {"train": 30, "validation": 10, "test": 20}
    value = {
        "name": "toy",
        "tasks": [
            {"name": "synthetic_ner", "options": sizes},
            {"name": "synthetic_relation", "options": sizes},
            {"name": "mood", "type": "classification", "reader": "csv", "path": "mood", "labels": ["gay", "glum"]}
            | {"columns": {"text": "text", "labels": "label"}},
        ],
        "model": {"name_or_path": "tiny:bert", "max_length": 16, "stride": 4},
        "strategy": {"name": "S2"},
        "budget": {"epochs": 1},
        "data_dir": str(tmp_path),
    }
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(value))
    return file


def test_the_verb_prints_tables_and_writes_json_and_figures(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out" / "data.json"
    assert cli.main(["data", str(recipe), "--json", str(target), "--figures", str(tmp_path / "figures")]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    for title in ("Data", "Length in words", "Length in tokens of tiny:bert", "Labels", "Word types", "Look at"):
        assert any(line.startswith(title) for line in shown.splitlines()), title
    assert "mood/train: 95.0% of the examples are 'gay'" in shown
    report = DataReport.model_validate_json(target.read_text())
    assert {
        task: {split: each.examples for split, each in found.splits.items()} for task, found in report.tasks.items()
    } == {
        "synthetic_ner": {"train": 30, "validation": 10, "test": 20},
        "synthetic_relation": {"train": 30, "validation": 10, "test": 20},
        "mood": {"train": 20, "test": 10},
    }
    assert report.tokenizer is not None
    assert (report.tokenizer.name, report.tokenizer.longest, report.tokenizer.max_length) == ("tiny:bert", 1024, 16)
    assert report.tasks["synthetic_ner"].splits["train"].documents == 15
    assert list(target.parent.iterdir()) == [target]  # no temporary file is left
    assert len(list((tmp_path / "figures").iterdir())) == 6


def test_tokens_are_those_that_training_plans(recipe: Path, tmp_path: Path) -> None:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.run.prepare import prepare
    from hf_crosstask.training.rows import token_lengths as encoded_lengths

    overrides = ["model.max_length=512", "audit.policy=allow"]
    prepared = prepare(load_recipe(recipe, overrides), base_models=tmp_path / "models")
    target = tmp_path / "data.json"
    assert cli.main(["data", str(recipe), *overrides, "--json", str(target)]) == 0
    report = DataReport.model_validate_json(target.read_text())
    for task, found in report.tasks.items():
        tokens = found.splits["train"].tokens
        assert tokens is not None
        assert tokens.total == encoded_lengths(prepared.encoded[task]["train"].dataset, task).sum()


def test_a_tokenizer_out_of_reach_is_no_error(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", str(recipe), "model.name_or_path=no/such-model"]) == 0
    shown = capsys.readouterr().out
    assert "Length in words" in shown
    assert "no lengths in tokens: model.name_or_path: cannot load 'no/such-model'" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "{folder}"], "--json {folder} is a folder"),
        (["--figures", "{recipe}"], "--figures {recipe} is a file"),
        (["--json", "{recipe}/data.json"], "cannot write {recipe}/data.json"),
        (["model.name_or_path=tiny:brt"], "did you mean 'tiny:bert'"),
        (['tasks=["bc2gn"]'], "did you mean 'bc2gm'"),
    ],
)
def test_wrong_input_is_one_message(
    recipe: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {"folder": str(recipe.parent), "recipe": str(recipe)}
    given = [argument.format(**places) if "{" in argument else argument for argument in arguments]
    assert cli.main(["data", str(recipe), *given]) == 2
    assert message.format(**places) in capsys.readouterr().err


def test_a_recipe_whose_tasks_have_no_training_split(tmp_path: Path, recipe: Path) -> None:
    value = json.loads(recipe.read_text())
    value["tasks"] = [value["tasks"][2] | {"path": {"test": "mood/test.csv"}}]
    value["strategy"] = {"name": "S1"}
    recipe.write_text(json.dumps(value))
    target = tmp_path / "data.json"
    assert cli.main(["data", str(recipe), "model.name_or_path=no/such-model", "--json", str(target)]) == 0
    report = DataReport.model_validate_json(target.read_text())
    assert report.vocabulary.tasks["mood"].own is None


# The real corpora


@pytest.mark.slow
def test_real_corpora_agree_with_their_published_counts(shared_data: Path, tmp_path: Path) -> None:
    data = {name: load_task(TaskSpec(name=name), data_dir=shared_data) for name in ("bc2gm", "chemprot", "pubmedqa")}
    tokenizer = train_tokenizer("bert", data["bc2gm"].splits["train"]["text"][:3000])
    use = RecipeTokenizer("bert", tokenizer, causal=False, longest=512, max_length=128)
    report = build_report(data, recipe="spine", tokenizer=use)
    different = {
        (task, count.split, count.name): count.difference
        for task, found in report.tasks.items()
        for count in found.published
        if count.difference
    }
    # Abstracts without a candidate pair, and mentions in none: nothing else differs.
    assert different == {
        ("chemprot", "train", "documents"): -92,
        ("chemprot", "train", "entities"): -9_689,
        ("chemprot", "validation", "documents"): -57,
        ("chemprot", "validation", "entities"): -5_999,
        ("chemprot", "test", "documents"): -72,
        ("chemprot", "test", "entities"): -7_449,
    }
    relations = next(c for c in report.tasks["chemprot"].published if (c.split, c.name) == ("train", "relations"))
    assert (relations.published, relations.read, relations.lost) == (4_157, 4_154, 3)
    assert ("GENE",) in [shared.exact for shared in report.shared_names]
    pubmedqa = report.tasks["pubmedqa"].tokens
    assert pubmedqa is not None
    assert (pubmedqa.suggested_max_length, pubmedqa.covered < 0.99) == (512, True)
    assert len(write_figures(report, tmp_path)) == 6
