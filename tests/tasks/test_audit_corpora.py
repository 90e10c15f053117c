"""The audit on the eight public corpora, against the overlaps that were measured independently (data.md, section 11)."""

from __future__ import annotations

import csv
import importlib
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from hf_crosstask.tasks.audit import AuditReport, AuditSpec, SplitPair, apply_policy, audit_splits
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.readers.base import Source
from hf_crosstask.tasks.schema import to_dataset

pytestmark = pytest.mark.slow  # reading the corpora takes ten seconds, the audit two


@dataclass(frozen=True)
class Task:
    splits: dict[str, Dataset]


def pair(report: AuditReport, train: str, evaluation: str, split: str = "test") -> SplitPair:
    keys = {(p.train_task, p.evaluation_task, p.evaluation_split): p for p in report.pairs}
    return keys[train, evaluation, split]


HALLMARKS = (
    "Activating invasion and metastasis",
    "Avoiding immune destruction",
    "Cellular energetics",
    "Enabling replicative immortality",
    "Evading growth suppressors",
    "Genomic instability and mutation",
    "Inducing angiogenesis",
    "Resisting cell death",
    "Sustaining proliferative signaling",
    "Tumor promoting inflammation",
)
CORPORA: dict[str, dict[str, Any]] = {
    "bc2gm": {"type": "ner", "labels": ("GENE",), "path": "bc2gm/original", "options": {"variant": "original"}},
    "jnlpba": {
        "type": "ner",
        "labels": ("DNA", "RNA", "cell_line", "cell_type", "protein"),
        "options": {"validation": "none"},
    },
    "chemprot": {
        "type": "relation",
        "labels": ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9", "false"),
        "negative_label": "false",
    },
    "ddi": {
        "type": "relation",
        "labels": ("advise", "effect", "false", "int", "mechanism"),
        "negative_label": "false",
        "options": {"validation_documents": 0},
    },
    "gad": {"type": "classification", "labels": ("0", "1")},
    "hoc": {"type": "multilabel", "labels": HALLMARKS},
    "pubmedqa": {"type": "classification", "labels": ("yes", "no", "maybe")},
    "biosses": {"type": "similarity"},
}


@pytest.fixture(scope="module")
def corpora(shared_data: Path) -> dict[str, Task]:
    """All eight public corpora, read from their original files."""
    tasks = {}
    for name, fields in CORPORA.items():
        reader = importlib.import_module(f"hf_crosstask.tasks.readers.{name}")
        card = TaskCard.model_validate({"name": name, "level": 1, "primary_metric": "any", "reader": name, **fields})
        source = Source(card, shared_data / (fields.get("path") or name), options=card.options)
        tasks[name] = Task({split: to_dataset(rows) for split, rows in reader.read(source).splits.items()})
    return tasks


@pytest.fixture(scope="module")
def measured(corpora: dict[str, Task]) -> tuple[AuditReport, float]:
    """The audit of all of them with every leak named, and by how much it raised the peak memory (GB)."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = audit_splits(corpora, examples=100_000)
    return report, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1e6


def test_all_public_corpora_fit_the_memory_budget(measured: tuple[AuditReport, float]) -> None:
    report, gigabytes = measured
    assert sum(split.examples for split in report.splits) > 100_000
    assert gigabytes < 2


def test_every_listed_overlap_of_the_corpora_is_found(
    corpora: dict[str, Task], measured: tuple[AuditReport, float], shared_data: Path
) -> None:
    """`cross_corpus_pmid_overlap.tsv` lists the PMIDs that lie in more than one corpus or split."""
    split_names = {"train": "train", "devel": "validation", "validation": "validation", "test": "test"}
    expected: dict[tuple[str, str, str], set[str]] = {}
    with open(shared_data / "cross_corpus_pmid_overlap.tsv", encoding="utf-8") as lines:
        for pmid, where in list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]:
            places = [place.strip().split(":")[0].split("/") for place in where.split("|")]
            places = [(corpus, split_names[split]) for corpus, split in places if corpus in corpora]
            for train in {corpus for corpus, split in places if split == "train"}:
                for corpus, split in places:
                    if split != "train":
                        expected.setdefault((train, corpus, split), set()).add(f"pmid:{pmid}")
    # The table of data.md, section 11.
    assert {key: len(pmids) for key, pmids in expected.items()}.items() >= {
        ("bc2gm", "bc2gm", "test"): 418,
        ("jnlpba", "bc2gm", "test"): 20,
        ("jnlpba", "bc2gm", "validation"): 8,
        ("bc2gm", "jnlpba", "test"): 7,
        ("hoc", "chemprot", "test"): 1,
        ("hoc", "chemprot", "validation"): 2,
        ("bc2gm", "chemprot", "validation"): 1,
    }.items()
    report = measured[0]
    group_of = {
        (name, split): dict(zip(rows["id"], rows["split_group"], strict=True))
        for name, each in corpora.items()
        for split, rows in each.splits.items()
    }
    for (train, corpus, split), pmids in expected.items():
        overlap = pair(report, train, corpus, split).overlaps["document"]
        found = {group_of[corpus, split][example.evaluation] for example in overlap.examples}
        assert pmids <= found, (train, corpus, split)
        assert found == pmids or train == corpus, (train, corpus, split)


def test_text_finds_what_ids_find_and_nothing_else_across_corpora(
    corpora: dict[str, Task], measured: tuple[AuditReport, float]
) -> None:
    """Without any ids the audit finds every sentence of the overlapping abstracts, and no pair of unrelated texts."""
    report = measured[0]
    text_hits = {
        (p.train_task, p.evaluation_task, p.evaluation_split): p.overlaps["near_duplicate"]
        for p in report.leaks(within_task=False)
        if "near_duplicate" in p.overlaps
    }
    documents = {key: hits.evaluation_documents for key, hits in text_hits.items()}
    assert documents == {
        ("jnlpba", "bc2gm", "test"): 20,
        ("jnlpba", "bc2gm", "validation"): 8,
        ("bc2gm", "jnlpba", "test"): 7,
        ("hoc", "chemprot", "test"): 1,
        ("hoc", "chemprot", "validation"): 2,
    }
    for (train, corpus, split), hits in text_hits.items():
        by_document = pair(report, train, corpus, split).overlaps["document"].examples
        assert {e.evaluation for e in hits.examples} <= {e.evaluation for e in by_document}


def test_overlaps_within_the_corpora(measured: tuple[AuditReport, float]) -> None:
    """The figures of data.md, sections 5, 8 and 11."""
    report = measured[0]
    assert pair(report, "bc2gm", "bc2gm").overlaps["document"].evaluation_documents == 418
    assert pair(report, "bc2gm", "bc2gm").overlaps["identical"].evaluation_examples == 12
    assert pair(report, "jnlpba", "jnlpba").overlaps["document"].evaluation_documents == 10
    # 93 pairs in sentences of 8 words and more, as listed, and one each in two of seven words.
    assert pair(report, "ddi", "ddi").overlaps["identical"].evaluation_examples == 95
    assert pair(report, "gad", "gad").overlaps["identical"].evaluation_documents == 5
    assert pair(report, "biosses", "biosses").overlaps["identical"].evaluation_examples >= 4
    assert pair(report, "pubmedqa", "pubmedqa").leak is None
    assert pair(report, "hoc", "hoc").comparable_examples == 3_547
    assert "document" not in pair(report, "hoc", "hoc").overlaps


def test_purging_the_corpora_leaves_no_leak(corpora: dict[str, Task]) -> None:
    audited = apply_policy(corpora, AuditSpec(policy="purge"))
    assert audited.purged is not None
    assert audited.purged.dropped["pubmedqa"] == 0
    for name, dropped in audited.purged.dropped.items():
        assert len(audited.splits[name]["train"]) == audited.purged.before[name] - dropped
    assert audit_splits({name: Task(splits) for name, splits in audited.splits.items()}).leaks() == ()
