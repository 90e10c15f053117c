from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from hf_crosstask.errors import InputError
from hf_crosstask.tasks.audit import AuditReport, AuditSpec, LeakageError, apply_policy, audit_splits, purge, tables
from hf_crosstask.tasks.audit.corpus import document_key
from hf_crosstask.tasks.audit.hashing import hash_texts, rolling_grams
from hf_crosstask.tasks.audit.near import CONTAINMENT, FEWEST_SHARED, RESEMBLANCE, SHINGLE
from hf_crosstask.tasks.audit.report import Overlap, SplitPair
from hf_crosstask.tasks.schema import make_example, to_dataset

SENTENCE = "The patient was started on oral warfarin after a second deep venous thrombosis of the left leg."
OTHER = "Serum potassium fell below three millimoles per litre within two days of the new diuretic regimen."
THIRD = "No fracture line could be seen on either view although the wrist remained swollen and very tender."


@dataclass(frozen=True)
class Task:
    splits: dict[str, Dataset]


def task(**splits: Sequence[str | tuple[str, str]]) -> Task:
    """Splits of texts, or of (split_group, text); without a group an example has no known document."""
    made = {}
    for split, rows in splits.items():
        examples = []
        for number, row in enumerate(rows):
            group, text = row if isinstance(row, tuple) else (f"{split}-{number}", row)
            examples.append(make_example(f"{split}-{number}", "t", text, split_group=group))
        made[split] = to_dataset(examples)
    return Task(made)


def pair(report: AuditReport, train: str, evaluation: str, split: str = "test") -> SplitPair:
    found = [
        p for p in report.pairs if (p.train_task, p.evaluation_task, p.evaluation_split) == (train, evaluation, split)
    ]
    assert len(found) == 1
    return found[0]


def kinds(found: SplitPair) -> dict[str, int]:
    return {kind: overlap.evaluation_examples for kind, overlap in found.overlaps.items()}


def words(text: str) -> list[str]:
    """The normalization of the audit, written the slow way."""
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(c if c.isalnum() else " " for c in text).split(" ") if text.strip() else []


# --- hashing --------------------------------------------------------------------------------------------------------

any_text = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("abAB12 .-\n²µé")), max_size=60)


@given(st.lists(any_text, max_size=8))
def test_words_and_identity_are_those_of_the_slow_definition(texts: list[str]) -> None:
    hashed = hash_texts(texts)
    expected = [[word for word in words(text) if word] for text in texts]
    assert hashed.lengths.tolist() == [len(each) for each in expected]
    flat = [word for each in expected for word in each]
    assert len(set(hashed.words.tolist())) == len(set(flat))
    assert len(set(zip(hashed.words.tolist(), flat, strict=True))) == len(set(flat))
    identity = ["".join(each) for each in expected]
    assert len(set(zip(hashed.identity.tolist(), identity, strict=True))) == len(set(identity))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=6))
def test_grams_are_the_runs_of_words_inside_one_text(texts: list[str]) -> None:
    expected: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
    for n in (1, 2, 4):
        expected[n] = []
        for owner, text in enumerate(texts):
            split = text.split()
            expected[n] += [(owner, tuple(split[i : i + n])) for i in range(len(split) - n + 1)]
    for n, grams in rolling_grams(hash_texts(texts), (1, 2, 4)):
        assert grams.owners.tolist() == [owner for owner, _ in expected[n]]
        runs = [run for _, run in expected[n]]
        assert len(set(zip(grams.hashes.tolist(), runs, strict=True))) == len(set(runs)) == len(set(grams.hashes))


def test_chunks_do_not_touch_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [SENTENCE, "", OTHER, THIRD, "- -", SENTENCE]
    whole = hash_texts(texts)
    monkeypatch.setattr("hf_crosstask.tasks.audit.hashing._CHUNK", 50)
    parts = hash_texts(texts)
    assert parts.words.tolist() == whole.words.tolist()
    assert parts.offsets.tolist() == whole.offsets.tolist()
    assert parts.identity.tolist() == whole.identity.tolist()


# --- documents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("pmid:1606", "pmid:1606", True),
        ("PMID:00001606", "pmid:1606", True),
        ("pmid:1606", "muid:1606", False),
        ("1606", "1606", False),  # bare ids of two tasks say nothing
        ("doi:10.1/x", "doi:10.1/X", False),
        ("note:000", "note:0", True),
    ],
)
def test_document_key(left: str, right: str, same: bool) -> None:
    assert (document_key("a", left) == document_key("b", right)) is same


def test_documents_are_compared_within_an_id_space_only() -> None:
    tasks = {
        "declared": task(train=[("pmid:7", SENTENCE), ("pmid:8", OTHER)], test=[("pmid:9", THIRD)]),
        "other": task(test=[("PMID:0007", "Quite another sentence."), ("pmid:5", "And one more.")]),
        "bare": task(train=[("7", "Bare train.")], test=[("7", "Bare test.")]),
        "unknown": task(train=["Unknown train."], test=["Unknown test."]),
    }
    report = audit_splits(tasks)
    leaking = pair(report, "declared", "other")
    assert kinds(leaking) == {"document": 1}
    assert leaking.comparable_examples == 2
    assert leaking.leak is not None
    assert [(e.evaluation, e.train) for e in leaking.leak.examples] == [("test-0", "train-0")]
    assert kinds(pair(report, "bare", "bare")) == {"document": 1}
    assert pair(report, "declared", "bare").comparable_examples == 0
    assert pair(report, "unknown", "unknown").comparable_examples == 0
    assert [s.id_spaces for s in report.splits if s.split == "test"] == [
        {"pmid": 1},
        {"pmid": 2},
        {"(own)": 1},
        {"(unknown)": 1},
    ]


# --- texts ----------------------------------------------------------------------------------------------------------

TOKENIZED = " ".join(re.findall(r"\w+|[^\w\s]", SENTENCE)).upper()
EDITED = SENTENCE.replace("oral warfarin", "oral apixaban")
ABSTRACT = f"Background. Anticoagulants are often given. {SENTENCE} Bleeding was rare. Nothing else was of note here."
# 13 words of SENTENCE inside other words: a shared run, but neither a copy nor a part.
PHRASE = "Thus she was started on oral warfarin after a second deep venous thrombosis of the right arm, bled twice, "
PHRASE += "received vitamin K, and finally left hospital against the advice of all three consultants on the ward."


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (TOKENIZED, {"identical", "near_duplicate", "ngram"}),
        (EDITED, {"near_duplicate"}),
        (ABSTRACT, {"near_duplicate", "ngram"}),
        (PHRASE, {"ngram"}),
        (OTHER, set()),
    ],
)
def test_kinds_of_text_overlap(train: str, expected: set[str]) -> None:
    for left, right in ((train, SENTENCE), (SENTENCE, train)):
        found = pair(audit_splits({"a": task(train=[THIRD, left]), "b": task(test=[right, OTHER[::-1]])}), "a", "b")
        assert kinds(found) == dict.fromkeys(expected, 1)
        assert (found.leak is not None) is bool(expected - {"ngram"})


def test_short_texts() -> None:
    ten = "one two three four five six seven eight nine ten"
    tasks = {
        "a": task(train=["Beta blocking agents.", f"In front {ten} behind it"]),
        "b": task(test=["beta-blocking AGENTS", ten, "Too short to compare at all."]),
    }
    report = audit_splits(tasks)
    found = pair(report, "a", "b")
    assert kinds(found) == {"identical_short": 1, "ngram": 1, "near_duplicate": 1}
    assert found.leak is not None
    assert found.leak.evaluation_examples == 1  # three words in common are no leak
    assert [s.short_examples for s in report.splits] == [1, 2]
    reverse = audit_splits({"a": task(train=[ten]), "b": task(test=[f"In front {ten} behind it"])})
    assert kinds(pair(reverse, "a", "b")) == {"ngram": 1, "near_duplicate": 1}


def test_a_run_of_eight_words_links_long_texts_only_if_it_is_one_of_them() -> None:
    eight = "one two three four five six seven eight"
    left = f"{eight} a b c d e f g h i j k l"
    right = f"m n o p q r s t u v w x y z {eight}"
    report = audit_splits({"a": task(train=[left]), "b": task(test=[right, eight])})
    assert kinds(pair(report, "a", "b")) == {"ngram": 1, "near_duplicate": 1}  # `eight` itself, inside `left`
    assert pair(report, "a", "b").overlaps["ngram"].examples[0].evaluation == "test-1"


def test_either_text_of_a_pair_can_leak() -> None:
    def pairs(split: str, left: str, right: str) -> Dataset:
        return to_dataset([make_example(f"{split}-0", "t", left, split_group="g", text_pair=right, score=1.0)])

    train, test = pairs("train", SENTENCE, OTHER), pairs("test", THIRD, SENTENCE)
    report = audit_splits({"a": Task({"train": train}), "b": Task({"test": test})})
    assert kinds(pair(report, "a", "b")) == {"identical": 1, "near_duplicate": 1, "ngram": 1}


def test_counts_documents_and_rows_of_every_pair() -> None:
    repeated = [("pmid:1", SENTENCE), ("pmid:1", OTHER), ("pmid:2", SENTENCE)]
    tasks = {
        "a": task(train=[*repeated, ("pmid:3", THIRD)], validation=[("pmid:8", THIRD)], test=[("pmid:1", "Short.")]),
        "b": task(test=[("pmid:4", SENTENCE), ("pmid:4", SENTENCE), ("pmid:5", SENTENCE)]),
    }
    report = audit_splits(tasks, examples=1)
    across = pair(report, "a", "b")
    assert across.leak is not None
    found = (across.leak.evaluation_examples, across.leak.evaluation_documents)
    assert found == (3, 2)
    assert (across.leak.train_examples, across.leak.train_documents) == (2, 2)
    assert across.leak.train_rows == (0, 2)
    assert len(across.leak.examples) == 1
    assert not across.within_task
    assert kinds(pair(report, "a", "a", "validation")) == {"identical": 1, "near_duplicate": 1, "ngram": 1}
    own = pair(report, "a", "a")
    assert own.within_task
    assert own.leak is not None
    assert own.leak.train_rows == (0, 1)
    assert len(report.pairs) == 3  # b has no training split
    assert [p.evaluation_split for p in report.leaks(within_task=True)] == ["validation", "test"]
    assert [p.evaluation_task for p in report.leaks(within_task=False)] == ["b"]


def test_masses_of_near_copies_are_all_found() -> None:
    def copies(split: str, count: int) -> list[str]:
        tail = "was discharged in good general condition and will be seen again in six weeks by the family doctor"
        return [f"Patient {split}{number} {tail}" for number in range(count)]

    report = audit_splits({"a": task(train=copies("x", 700)), "b": task(test=copies("y", 500))})
    found = pair(report, "a", "b").overlaps["near_duplicate"]
    assert (found.evaluation_examples, found.train_examples) == (500, 700)


def test_no_texts_no_splits_no_words() -> None:
    assert audit_splits({}).pairs == ()
    assert audit_splits({"a": task(train=[SENTENCE])}).pairs == ()
    assert pair(audit_splits({"a": task(train=["..."], test=["!?"])}), "a", "a").overlaps == {}


vocabulary = st.sampled_from([f"w{number}" for number in range(60)])
sentences = st.lists(vocabulary, min_size=13, max_size=30)


@settings(max_examples=50)
@given(st.lists(sentences, max_size=5), sentences, st.data())
def test_planted_copies_are_always_found(noise: list[list[str]], planted: list[str], data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, len(planted) - 1))
    edited = [*planted[:changed], "unseen", *planted[changed + 1 :]]
    start = data.draw(st.integers(0, len(planted) - 13))
    phrase = ["x1", "x2", *planted[start : start + 13], "x3", "x4"]
    tasks = {
        "a": task(train=[*map(" ".join, noise), " ".join(planted)]),
        "copy": task(test=[" - ".join(planted).upper()]),
        "edit": task(test=[" ".join(edited)]),
        "phrase": task(test=[" ".join(phrase)]),
    }
    report = audit_splits(tasks)
    assert kinds(pair(report, "a", "copy")) == {"identical": 1, "near_duplicate": 1, "ngram": 1}
    assert kinds(pair(report, "a", "phrase"))["ngram"] == 1
    distinct = len({tuple(planted[i : i + SHINGLE]) for i in range(len(planted) - SHINGLE + 1)})
    if distinct == len(planted) - SHINGLE + 1:  # repeated shingles make one change count for more
        assert kinds(pair(report, "a", "edit"))["near_duplicate"] == 1


@settings(max_examples=50)
@given(st.lists(sentences, min_size=1, max_size=6), st.lists(sentences, min_size=1, max_size=6))
def test_texts_without_common_words_never_overlap(train: list[list[str]], test: list[list[str]]) -> None:
    tasks = {
        "a": task(train=[" ".join(text) for text in train]),
        "b": task(test=[" ".join(f"other{word}" for word in text) for text in test]),
    }
    assert pair(audit_splits(tasks), "a", "b").overlaps == {}


few_words = st.lists(st.sampled_from("abcd"), min_size=6, max_size=16).map(" ".join)


@settings(max_examples=60)
@given(st.lists(few_words, min_size=1, max_size=12), st.lists(few_words, min_size=1, max_size=12))
def test_near_duplicates_are_exactly_those_of_the_definition(train: list[str], test: list[str]) -> None:
    def shingles(text: str) -> set[tuple[str, ...]]:
        split = text.split()
        return {tuple(split[i : i + SHINGLE]) for i in range(len(split) - SHINGLE + 1)}

    def near(left: str, right: str) -> bool:
        if left == right and len(left.split()) >= 7:
            return True
        a, b = shingles(left), shingles(right)
        shared = len(a & b)
        return shared >= FEWEST_SHARED and (
            shared / len(a | b) >= RESEMBLANCE or shared / min(len(a), len(b)) >= CONTAINMENT
        )

    expected = {f"test-{i}" for i, text in enumerate(test) if any(near(text, other) for other in train)}
    report = audit_splits({"a": task(train=train), "b": task(test=test)}, examples=100)
    overlap = pair(report, "a", "b").overlaps.get("near_duplicate", Overlap.model_construct(examples=()))
    assert {example.evaluation for example in overlap.examples} == expected
    for example in overlap.examples:
        assert near(test[int(example.evaluation.split("-")[1])], train[int(example.train.split("-")[1])])


# --- policy ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def leaky() -> dict[str, Task]:
    return {
        "genes": task(
            train=[("pmid:1", SENTENCE), ("pmid:2", OTHER), ("pmid:3", THIRD)],
            test=[("pmid:2", "Another part of it.")],
        ),
        "drugs": task(train=[("pmid:9", "Nothing to see.")], test=[("pmid:7", EDITED)]),
    }


def test_a_leak_is_an_error_by_default(leaky: dict[str, Task]) -> None:
    with pytest.raises(LeakageError) as caught:
        apply_policy(leaky)
    message = str(caught.value)
    assert isinstance(caught.value, InputError)
    assert [(p.train_task, p.evaluation_task) for p in caught.value.pairs] == [("genes", "genes"), ("genes", "drugs")]
    assert re.search(r"genes/test +genes +1 +1 +1 +1 +0 +0 +1", message)
    assert re.search(r"drugs/test +genes +1 +1 +1 +0 +0 +1 +1", message)
    assert "audit.policy=purge: drop the training examples that leak (genes 2 of 3)" in message
    assert "audit.within_task=allow" in message
    assert "audit.policy=allow" in message


def test_published_splits_can_be_kept_while_leaks_between_tasks_stay_errors(leaky: dict[str, Task]) -> None:
    with pytest.raises(LeakageError) as caught:
        apply_policy(leaky, AuditSpec(within_task="allow"))
    assert [p.evaluation_task for p in caught.value.pairs] == ["drugs"]
    assert "within_task" not in str(caught.value)
    with pytest.raises(LeakageError):
        apply_policy(leaky, AuditSpec(policy="allow", within_task="error"))
    alone = apply_policy({"genes": leaky["genes"]}, AuditSpec(within_task="allow"))
    assert len(alone.splits["genes"]["train"]) == 3


def test_purge_drops_training_examples_and_counts_them(leaky: dict[str, Task]) -> None:
    audited = apply_policy(leaky, AuditSpec(policy="purge"))
    assert audited.splits["genes"]["train"]["text"][:] == [THIRD]
    assert audited.splits["genes"]["test"] is leaky["genes"].splits["test"]
    assert audited.purged is not None
    assert audited.purged.model_dump() == {
        "before": {"genes": 3, "drugs": 1},
        "dropped": {"genes": 2, "drugs": 0},
        "pairs": (
            {
                "train_task": "genes",
                "evaluation_task": "genes",
                "evaluation_split": "test",
                "examples": 1,
                "documents": 1,
            },
            {
                "train_task": "genes",
                "evaluation_task": "drugs",
                "evaluation_split": "test",
                "examples": 1,
                "documents": 1,
            },
        ),
    }
    clean = audit_splits({name: Task(splits) for name, splits in audited.splits.items()})
    assert clean.leaks() == ()

    between = apply_policy(leaky, AuditSpec(policy="purge", within_task="allow"))
    assert between.splits["genes"]["train"]["text"][:] == [OTHER, THIRD]


def test_allow_changes_nothing_and_reports_all(leaky: dict[str, Task]) -> None:
    audited = apply_policy(leaky, AuditSpec(policy="allow"))
    assert audited.purged is None
    assert len(audited.report.leaks()) == 2
    assert audited.splits == {name: each.splits for name, each in leaky.items()}


def test_the_kinds_that_count_can_be_chosen(leaky: dict[str, Task]) -> None:
    tasks = {"a": task(train=[PHRASE]), "b": task(test=[SENTENCE])}
    assert apply_policy(tasks).report.leaks() == ()
    with pytest.raises(LeakageError):
        apply_policy(tasks, AuditSpec(kinds=("ngram",)))
    assert apply_policy(leaky, AuditSpec(kinds=("identical",))).report.leaks() == ()
    for wrong in ({"kinds": []}, {"kinds": ["fuzzy"]}, {"policy": "ignore"}, {"polcy": "purge"}):
        with pytest.raises(ValidationError):
            AuditSpec.model_validate(wrong)


def test_purge_refuses_what_it_cannot_do_right(leaky: dict[str, Task]) -> None:
    report = audit_splits(leaky)
    with pytest.raises(InputError, match="audit the tasks again"):
        purge(leaky, AuditReport.model_validate_json(report.model_dump_json()))
    shrunk = {**leaky, "genes": Task({**leaky["genes"].splits, "train": leaky["genes"].splits["train"].select([0])})}
    with pytest.raises(InputError, match="genes has 1 training examples now"):
        purge(shrunk, report)
    with pytest.raises(InputError, match="'a': all 1 training examples leak"):
        apply_policy({"a": task(train=[SENTENCE], test=[SENTENCE])}, AuditSpec(policy="purge"))


def test_report_round_trips_and_is_deterministic(leaky: dict[str, Task]) -> None:
    report = audit_splits(leaky)
    text = report.model_dump_json()
    assert AuditReport.model_validate_json(text).model_dump_json() == text
    assert audit_splits(leaky).model_dump_json() == text
    assert "train_rows" not in text


def test_tables_show_coverage_and_both_scopes(leaky: dict[str, Task]) -> None:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        for table in tables(audit_splits({**leaky, "own": task(train=[("1", "x")], test=[("2", SENTENCE)])})):
            console.print(table)
    shown = capture.get()
    between, within = shown.index("another task's training split"), shown.index("their own task's training split")
    assert re.search(r"genes/train +3 +3 +pmid 3 +0", shown[:between])
    assert "drugs/test" in shown[between:within]
    assert re.search(r"own/test +genes .* not comparable", shown[between:within])
    assert "genes/test" in shown[within:]
    with console.capture() as capture:
        for table in tables(audit_splits({"a": task(train=[SENTENCE], test=[OTHER])})):
            console.print(table)
    assert capture.get().count("none found") == 2
