from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

Load = Callable[..., TaskData]
Corpora = Mapping[str, tuple[dict[str, str], dict[str, Any]]]


def test_original(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["bc2gm_original"]
    data = load(files, **spec)
    train, validation, test = (data.splits[split] for split in ("train", "validation", "test"))
    assert train["id"] == ["P00000011T0000", "P00000011A0007"]
    assert train["split_group"] == ["pmid:11", "pmid:11"]
    assert validation["id"] == ["P00000012A0100"]
    assert test["split_group"] == ["pmid:99"]
    first = train[0]["entities"][0]
    assert (first["type"], first["offsets"], first["text"]) == ("GENE", [[7, 13]], ["glorin"])
    assert first["attributes"] == [{"name": "alternative", "value": "0:13"}]
    assert train[1]["entities"][0]["text"] == ["Mavin A"]
    assert train[1]["entities"][0]["attributes"] == [{"name": "alternative", "value": "0:5"}]
    assert test[0]["entities"][0]["attributes"] == [
        {"name": "alternative", "value": "0:10"},
        {"name": "neutral", "value": "15:21"},
    ]
    assert data.dropped == {"train": {"alternatives in a sentence without a gene": 1}}
    assert "entity_f1_alternatives" in data.card.secondary_metrics


def test_iob(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["bc2gm"]
    data = load(files, **spec)
    assert data.splits["train"][0]["text"] == "Glorin - 2 binds felt ."
    assert data.splits["train"][0]["entities"][0]["text"] == ["Glorin - 2"]
    assert set(data.splits) == {"train", "validation", "test"}
    assert "entity_f1_alternatives" not in data.card.secondary_metrics


def test_validation_of_the_original(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["bc2gm_original"]
    without = {name: text for name, text in files.items() if "devel" not in name}
    with pytest.raises(DataFormatError, match=r"options\.validation to 'documents' or 'none'"):
        load(without, **spec)
    data = load(without, **spec | {"options": {"variant": "original", "validation": "none"}})
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 3, "test": 1}


def test_documents_are_held_out_whole(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["bc2gm_original"]
    numbers = range(1, 200)
    sentences = "".join(f"P{n:08d}{part} Serum glorin rose.\n" for n in numbers for part in ("T0000", "A0050"))
    genes = "".join(f"P{n:08d}{part}|5 10|glorin\n" for n in numbers for part in ("T0000", "A0050"))
    files = files | {"train/train.in": sentences, "train/GENE.eval": genes, "train/ALTGENE.eval": ""}
    data = load(files, **spec | {"options": {"variant": "original", "validation": "documents"}})
    groups = {split: set(data.splits[split]["split_group"]) for split in ("train", "validation")}
    assert not groups["train"] & groups["validation"]
    assert 15 < len(groups["validation"]) < 55


@pytest.mark.parametrize(
    ("file", "text", "line", "message"),
    [
        ("train/GENE.eval", "P00000011T0000|5 10|mavin\n", 1, "has 'glorin' at these offsets"),
        ("train/GENE.eval", "P00000011T0000|5 99|glorin\n", 1, "lie outside the 16 visible characters"),
        ("train/GENE.eval", "P00000011T0000|10 5|glorin\n", 1, "lie outside"),
        ("train/GENE.eval", "P00000011T0000|5,10|glorin\n", 1, "expected `ID"),
        ("train/GENE.eval", "P00000077T0000|5 10|glorin\n", 1, "no sentence has the id"),
        ("train/train.in", "P00000011T0000\n", 1, "expected `ID sentence`"),
        ("train/train.in", "P00000011T0000 a b\nP00000011T0000 c\n", 2, "occurs twice"),
        ("test/test.idmap", "X BC2GM1\n", 1, "expected `P<PMID>"),
        ("test/test.idmap", "", None, "maps no PMID to 1 sentences"),
        ("train/train.in", "X1 a b\n", None, "PMID in eight digits"),
        ("devel-split/devel/devel.in", "P00000077T0000 x\n", None, "are not in train.in"),
    ],
)
def test_broken_files(load: Load, corpora: Corpora, file: str, text: str, line: int | None, message: str) -> None:
    files, spec = corpora["bc2gm_original"]
    with pytest.raises(DataFormatError, match=message) as caught:
        load(files | {file: text}, **spec)
    assert caught.value.line == line
    assert caught.value.path.endswith(file)


def test_unknown_variant(load: Load, corpora: Corpora) -> None:
    files, spec = corpora["bc2gm_original"]
    with pytest.raises(InputError, match=r"options\.variant: Input should be 'iob' or 'original'"):
        load(files, **spec | {"options": {"variant": "orignal"}})


@st.composite
def sentence_and_mentions(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    alphabet = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="|\ufeff")
    text = draw(st.text(alphabet, min_size=1, max_size=30).filter(lambda text: text.strip() != ""))
    visible = [index for index, character in enumerate(text) if not character.isspace()]
    ends = st.tuples(st.sampled_from(visible), st.sampled_from(visible))
    mentions = draw(st.lists(ends.map(lambda pair: (min(pair), max(pair) + 1)), min_size=1, max_size=4, unique=True))
    return text, mentions


@settings(max_examples=60, deadline=None)
@given(st.lists(sentence_and_mentions(), min_size=1, max_size=3), st.booleans())
def test_offsets_without_blanks_round_trip(cases: list[tuple[str, list[tuple[int, int]]]], crlf: bool) -> None:
    sentences, lines = [], []
    for number, (text, mentions) in enumerate(cases):
        name = f"P{number:08d}T0000"
        sentences.append(f"{name} {text}")
        for start, end in mentions:
            before = sum(not c.isspace() for c in text[:start])
            inside = sum(not c.isspace() for c in text[start:end])
            lines.append(f"{name}|{before} {before + inside - 1}|{text[start:end]}")
    line_end = "\r\n" if crlf else "\n"
    files = {
        "train/train.in": sentences,
        "train/GENE.eval": lines,
        "train/ALTGENE.eval": [],
        "test/test.in": ["BC2GM1 x"],
        "test/GENE.eval": [],
        "test/ALTGENE.eval": [],
        "test/test.idmap": ["P00000099T0000 BC2GM1"],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes("".join(row + line_end for row in rows).encode())
        options = {"variant": "original", "validation": "none"}
        data = load_task(TaskSpec(name="bc2gm", path=folder, options=options), data_dir=None)
    for row, (text, mentions) in zip(data.splits["train"], cases, strict=True):
        assert row["text"] == text
        found = sorted(tuple(entity["offsets"][0]) for entity in row["entities"])
        assert found == sorted(mentions)


def official_counts(
    predicted: Mapping[str, set[tuple[int, int]]],
    genes: Mapping[str, list[tuple[int, int]]],
    alternatives: Mapping[str, list[tuple[int, int]]],
) -> tuple[int, int, int]:
    """True positives, false positives, false negatives as alt_eval.perl counts them (offsets inclusive)."""
    hits = misses = wrong = 0
    for name, spans in genes.items():
        for start, end in spans:
            own = {(s, e) for s, e in alternatives.get(name, []) if s <= end and start <= e}
            found = bool(predicted.get(name, set()) & (own | {(start, end)}))
            hits, misses = hits + found, misses + (not found)
    for name, spans_ in predicted.items():
        wrong += len(spans_ - set(genes.get(name, [])) - set(alternatives.get(name, [])))
    return hits, wrong, misses


def test_attributes_carry_what_the_official_scorer_needs(shared_data: Path) -> None:
    """On random predictions over the real test set, counts from our entities equal those from the files."""
    folder = shared_data / "bc2gm/original/test"
    text_of = dict(line.split(" ", 1) for line in (folder / "test.in").read_text().splitlines())
    raw: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for kind in ("GENE", "ALTGENE"):
        raw[kind] = defaultdict(list)
        for line in (folder / f"{kind}.eval").read_text().splitlines():
            name, offsets, _ = line.split("|", 2)
            start, end = offsets.split()
            raw[kind][name].append((int(start), int(end)))
    random_source = random.Random(0)
    predicted: dict[str, set[tuple[int, int]]] = {}
    for name, text in text_of.items():
        if not raw["GENE"].get(name):
            continue  # two alternatives there are lost, counted in `dropped`
        length = len(text.replace(" ", ""))
        pool = raw["GENE"][name] + raw["ALTGENE"].get(name, [])
        chosen = random_source.sample(pool, random_source.randint(0, len(pool)))
        noise = [(start, min(start + 4, length - 1)) for start in random_source.sample(range(length), 1)]
        predicted[name] = set(chosen) | set(noise)

    data = load_task(TaskSpec(name="bc2gm", options={"variant": "original"}), data_dir=shared_data)
    hits = misses = wrong = 0
    for row in data.splits["test"]:
        visible = [index for index, character in enumerate(row["text"]) if character != " "]
        spans = {f"{visible[start]}:{visible[end] + 1}" for start, end in predicted.get(row["id"], ())}
        allowed: set[str] = set()
        for entity in row["entities"]:
            (start, end), marks = entity["offsets"][0], entity["attributes"]
            own = {f"{start}:{end}"} | {mark["value"] for mark in marks if mark["name"] == "alternative"}
            hits, misses = hits + bool(spans & own), misses + (not spans & own)
            allowed |= own | {mark["value"] for mark in marks if mark["name"] == "neutral"}
        wrong += len(spans - allowed)
    assert (hits, wrong, misses) == official_counts(predicted, raw["GENE"], raw["ALTGENE"])
    assert hits + misses == 6331
    assert data.dropped["test"] == {"alternatives in a sentence without a gene": 2}
