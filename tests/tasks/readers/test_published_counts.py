"""The real corpora against the counts in expected_counts.json (measured, equal to the published ones)."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.readers import READERS, ReadResult, Source
from hf_crosstask.tasks.registry import resolve_card
from hf_crosstask.tasks.schema import check_examples

Examples = Iterable[Mapping[str, Any]]


@pytest.fixture(scope="session")
def expected(shared_data: Path) -> dict[str, Any]:
    return json.loads((shared_data / "expected_counts.json").read_text())


def read(shared_data: Path, name: str, options: Mapping[str, Any] | None = None, **fields: Any) -> ReadResult:
    """The corpus as its reader gives it, after every invariant of the schema has been checked."""
    return _read(shared_data, TaskSpec(name=name, options=dict(options or {}), **fields).model_dump_json())


@functools.cache
def _read(shared_data: Path, spec: str) -> ReadResult:
    name = TaskSpec.model_validate_json(spec).name
    card = resolve_card(TaskSpec.model_validate_json(spec))
    result = READERS[card.reader](Source(card, shared_data / str(card.path), 0, card.options))
    check_examples(everything(result), card.type, card.labels, source=name)
    return result


def everything(result: ReadResult) -> list[dict[str, Any]]:
    return [example for examples in result.splits.values() for example in examples]


def entities(examples: Examples) -> Counter[str]:
    return Counter(entity["type"] for example in examples for entity in example["entities"])


def relations(examples: Examples) -> Counter[str]:
    return Counter(relation["type"] for example in examples for relation in example["relations"])


def labels(examples: Examples) -> Counter[str]:
    return Counter(label for example in examples for label in example["labels"])


def groups(examples: Examples) -> set[str]:
    return {example["split_group"] for example in examples}


def sizes(result: ReadResult) -> dict[str, int]:
    return {split: len(examples) for split, examples in result.splits.items()}


def test_jnlpba(shared_data: Path, expected: dict[str, Any]) -> None:
    counts = expected["jnlpba"]
    result = read(shared_data, "jnlpba")
    types = ("protein", "DNA", "RNA", "cell_line", "cell_type")
    test, validation = result.splits["test"], result.splits["validation"]
    assert len(test) == counts["original_test"]["sentences"]
    assert sum(len(example["text"].split(" ")) for example in test) == counts["original_test"]["tokens"]
    assert entities(test) == {type: counts["original_test"][type] for type in types}
    # The 200 validation abstracts leave the training part, and nothing else does: 46,750 mentions, as BLURB states.
    assert len(validation) == counts["mtl2016_devel"]["sentences"]
    assert entities(validation).total() == counts["mtl2016_devel"]["entities"]
    assert entities(result.splits["train"]).total() == 46_750
    assert len(groups(validation)) == counts["mtl2016_devel"]["abstracts"]
    assert not groups(validation) & groups(result.splits["train"])
    assert all(group.startswith("pmid:") for group in groups(everything(result)))
    assert result.dropped["validation"] == {"-DOCSTART- lines": 200}
    everything_kept = read(shared_data, "jnlpba", {"validation": "none"})
    train = everything_kept.splits["train"]
    rebuilt = counts["rebuilt_train_iob2"]
    assert (len(train), len({example["id"].split(".")[1] for example in train})) == (
        rebuilt["sentences"],
        rebuilt["abstracts"],
    )
    assert sum(len(example["text"].split(" ")) for example in train) == rebuilt["tokens"]
    assert entities(train) == {type: counts["train_2000_abstracts"][type] for type in types}


def test_jnlpba_leak_is_visible(shared_data: Path) -> None:
    """Ten test abstracts are in the training part (data.md section 11); the split groups say so."""
    result = read(shared_data, "jnlpba", {"validation": "none"})
    shared = groups(result.splits["train"]) & groups(result.splits["test"])
    assert len(shared) == 10
    assert {"pmid:9570512", "pmid:9618758", "pmid:9634075", "pmid:9643569"} < shared


def test_split_groups_are_those_of_the_overlap_table(shared_data: Path) -> None:
    """Every JNLPBA and HoC document of cross_corpus_pmid_overlap.tsv is found under its PMID."""
    found = {
        "jnlpba": groups(everything(read(shared_data, "jnlpba"))),
        "hoc": groups(everything(read(shared_data, "hoc"))),
    }
    named = Counter[str]()
    for line in (shared_data / "cross_corpus_pmid_overlap.tsv").read_text().splitlines()[1:]:
        pmid, places = line.split("\t")[:2]
        for place in places.split(" | "):
            corpus = place.split("/")[0]
            if corpus in found:
                named[corpus] += 1
                assert f"pmid:{int(pmid)}" in found[corpus]
    assert named["jnlpba"] > 90
    assert named["hoc"] >= 3


def test_ddi(shared_data: Path, expected: dict[str, Any]) -> None:
    counts = expected["ddi2013"]
    result = read(shared_data, "ddi", {"validation_documents": 0})
    train, test = result.splits["train"], result.splits["test"]
    types = ("mechanism", "effect", "advise", "int", "false")
    assert relations(train) == {type: counts["train"][type] for type in types}
    assert relations(test) == {type: counts["test_ddi"][type] for type in types}
    assert len(train) == counts["train"]["pairs"] - counts["train"]["true_without_type"]
    assert len(test) == counts["test_ddi"]["pairs"]
    # 90 training documents have no pair, hence no example.
    assert (len(groups(train)), len(groups(test))) == (counts["train"]["documents"] - 90, 191)
    assert result.dropped == {
        "train": {"true pairs without a type": 1, "known offset errors of the distribution, corrected": 1},
        "test": {"documents of the DrugNER test, which is not that of this task": counts["test_ner"]["documents"]},
    }
    assert "DDI-DrugBank.d236.s29.p0" not in {example["id"] for example in train}
    parts = {len(e["offsets"]) for example in train for e in example["entities"]}
    assert parts == {1, 2}
    fixed = {
        tuple(entity["text"])
        for example in train
        for entity in example["entities"]
        if entity["id"] == "DDI-DrugBank.d216.s16.e2"
    }
    assert fixed == {("(R)", "-warfarin")}


def test_ddi_validation_is_the_same_every_time(shared_data: Path) -> None:
    result = read(shared_data, "ddi")
    groups_of = {split: groups(examples) for split, examples in result.splits.items()}
    assert not groups_of["train"] & groups_of["validation"]
    assert sizes(result) == {"train": 25_159, "validation": 2_632, "test": 5_716}
    assert sizes(result) != sizes(read(shared_data, "ddi", {"split_seed": 1}))
    # Ninety documents, some of them without pairs.
    assert 70 < len(groups_of["validation"]) <= 90
    assert len(groups_of["train"] | groups_of["validation"]) == 624


@pytest.mark.parametrize("fold", range(1, 11))
def test_gad(shared_data: Path, expected: dict[str, Any], fold: int) -> None:
    counts = expected["gad"]
    result = read(shared_data, "gad", {"fold": fold})
    assert labels(everything(result)) == {"1": counts["label_1"], "0": counts["label_0"]}
    assert len(everything(result)) == counts["rows"]
    assert len(groups(everything(result))) == counts["unique_sentences"]
    assert len(result.splits["validation"]) == 535
    assert not groups(result.splits["validation"]) & groups(result.splits["train"])
    rest = [example for split in ("train", "validation") for example in result.splits[split]]
    shared = [5, 6, 4, 13, 15, 6, 14, 28, 1, 2][fold - 1]  # data.md section 5
    assert len(groups(rest) & groups(result.splits["test"])) == shared
    if fold == 1:
        assert sizes(result) == {"train": 4261, "validation": 535, "test": counts["fold1"]["test"]}


def test_hoc(shared_data: Path, expected: dict[str, Any]) -> None:
    counts = expected["hoc"]
    result = read(shared_data, "hoc")
    assert sizes(result) == counts["blurb_split_sentences"]
    assert {s: len(groups(e)) for s, e in result.splits.items()} == counts["blurb_split_documents"]
    assert len(everything(result)) == counts["sentences"]
    per_sentence = Counter(len(example["labels"]) for example in everything(result))
    assert per_sentence == {0: 13_021, 1: 3_734, 2: 634, 3: 67, 4: 7, 5: 1}  # data.md section 6
    per_document = Counter(
        label for _, label in {(e["split_group"], label) for e in everything(result) for label in e["labels"]}
    )
    assert per_document["Resisting cell death"] == 429
    assert per_document["Evading growth suppressors"] == 240
    assert sum(per_document.values()) == 462 + 429 + 333 + 291 + 240 + 240 + 143 + 115 + 108 + 105
    labelled = read(shared_data, "hoc", {"unlabelled_documents": "drop"})
    dropped = sum(reasons["abstracts without a hallmark"] for reasons in labelled.dropped.values())
    assert dropped == counts["documents_without_label"]


def test_biosses(shared_data: Path, expected: dict[str, Any]) -> None:
    result = read(shared_data, "biosses")
    assert sizes(result) == expected["biosses"]["blurb_split"]
    assert len(everything(result)) == expected["biosses"]["pairs"]
    score = {example["id"]: example["score"] for example in everything(result)}
    assert score["7"] == 1.6
    sentences = [text for example in everything(result) for text in (example["text"], example["text_pair"])]
    assert len({text.lower() for text in sentences}) == 182


@pytest.mark.parametrize(
    ("subtask", "task"), [("A", "semeval2017t3"), ("B", "semeval2017t3_b"), ("C", "semeval2017t3_c")]
)
def test_cqa(shared_data: Path, expected: dict[str, Any], subtask: str, task: str) -> None:
    counts = expected["semeval2016_task3"]
    result = read(shared_data, task)
    for split, part in (("train", "train-part2"), ("validation", "dev"), ("test", "test")):
        examples, published = result.splits[split], counts[part]
        queries = {example["group_id"] for example in examples}
        true = labels(examples)["true"]
        if subtask == "A":
            assert (len(queries), len(examples)) == (published["subtaskA_threads"], published["subtaskA_comments"])
            assert true == published["A_true" if split == "test" else "A_Good"]
        elif subtask == "B":
            assert (len(queries), len(examples)) == (published["orgq"], published["relq"])
            relevant = published["B_true"] if split == "test" else published["PerfectMatch"] + published["Relevant"]
            assert true == relevant
        else:
            assert (len(queries), len(examples)) == (published["orgq"], published["comments"])
            assert true == published["C_true" if split == "test" else "C_Good"]
        assert all(example["score"] == (example["labels"] == ["true"]) for example in examples)


@pytest.mark.parametrize(
    ("task", "queries", "published"),
    [("semeval2017t3", 327, 0.5953), ("semeval2017t3_b", 70, 0.7475), ("semeval2017t3_c", 70, 0.4036)],
)
def test_cqa_ranks_give_the_official_baseline(shared_data: Path, task: str, queries: int, published: float) -> None:
    """MAP of the search engine's order on the test set of 2016, as the organisers published it."""
    ranked: dict[str, list[tuple[int, float]]] = {}
    for example in read(shared_data, task).splits["test"]:
        ranked.setdefault(example["group_id"], []).append((example["rank"], example["score"]))
    precisions = []
    for candidates in ranked.values():
        hits = [relevant for _, relevant in sorted(candidates)][:10]
        at = [sum(hits[: k + 1]) / (k + 1) for k, hit in enumerate(hits) if hit]
        precisions.append(sum(at) / len(at) if at else 0.0)
    assert len(precisions) == queries
    assert sum(precisions) / len(precisions) == pytest.approx(published, abs=5e-5)


def test_brat_reads_a_zip_archive(shared_data: Path, expected: dict[str, Any]) -> None:
    """The standoff distribution of JNLPBA, 2,404 documents, through the generic reader."""
    counts = expected["jnlpba"]
    types = ("protein", "DNA", "RNA", "cell_line", "cell_type")
    result = read(
        shared_data,
        "standoff",
        type="ner",
        reader="brat",
        labels=types,
        path="jnlpba/standoff/jnlpba_standoff_train_test.zip",
    )
    assert sizes(result) == {"train": 2000, "test": 404}
    assert entities(result.splits["train"]) == {type: counts["train_2000_abstracts"][type] for type in types}
    assert entities(result.splits["test"]) == {type: counts["original_test"][type] for type in types}
    assert not result.dropped


def test_medqa_samples(shared_data: Path) -> None:
    folder = shared_data / "medqa_medmcqa_samples"
    for file, choices, rows in (
        ("medqa_us_test_sample40.jsonl", 5, 40),
        ("medmcqa_sample50_xkhuang_format.jsonl", 4, 50),
    ):
        card: TaskCard = resolve_card(TaskSpec(name="medqa", options={"choices": choices}))
        result = READERS["medqa"](Source(card, {"test": folder / file}, 0, card.options))
        check_examples(everything(result), card.type, (), source=file)
        assert sizes(result) == {"test": rows}
        assert {len(example["choices"]) for example in everything(result)} == {choices}
        assert len({example["choices"].index(example["answer"]) for example in everything(result)}) > 2
