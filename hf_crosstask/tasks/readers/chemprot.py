"""ChemProt (BioCreative VI task 5): the original TSV files as sentence-level candidate pairs.

Every (chemical, gene) pair of mentions in one sentence is an example, as in BLURB and BLUE: `text` is the sentence,
`entities` are the two mentions alone, the chemical as head and the gene as tail. A pair that the gold standard lists
carries its relation (or relations: a few dozen pairs have two classes, and the example then holds one relation per
class), every other pair carries the negative class. Gold pairs in different sentences cannot be expressed; they are
counted in `lost_gold`, and scorers count them as false negatives.

Files (a folder per part; names as distributed, with or without the suffix `_gs`):

- `*abstracts*.tsv`: PMID, title, abstract
- `*entities*.tsv`: PMID, entity id, CHEMICAL | GENE-Y | GENE-N, start, end (exclusive, into title + one character +
  abstract), text
- `*gold_standard*.tsv`: PMID, CPR group, `Arg1:Ti` (chemical), `Arg2:Tj` (gene)

The format has no quoting. Abstracts without gold stay: they give negatives. GENE-Y and GENE-N (whether the mention
could be normalized) are one type here, as for every published system.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    integer,
    parse_options,
    pmid_group,
    read_lines,
    source_folder,
)
from hf_crosstask.tasks.readers.sentences import Span, merge_straddled, split_sentences
from hf_crosstask.tasks.schema import make_entity, make_example

_PARTS = {"train": ("training",), "validation": ("development",), "test": ("test_gs", "test")}
_TYPES = {"CHEMICAL": "CHEMICAL", "GENE": "GENE", "GENE-Y": "GENE", "GENE-N": "GENE"}


class _Mention(NamedTuple):
    type: str
    start: int
    end: int
    text: str


_Mentions = dict[str, dict[str, _Mention]]  # PMID -> entity id -> mention
_Gold = dict[str, dict[tuple[str, str], list[str]]]  # PMID -> (chemical, gene) -> relation types


def read(source: Source) -> ReadResult:
    """Read the three parts of ChemProt.

    Raises:
        InputError: the card has no negative class.
        DataFormatError: a file is missing or breaks its format, an offset is wrong, a relation names an unknown
            entity, class or direction.
    """
    options = parse_options(source, TextOptions)
    folder = source_folder(source)
    negative = source.card.negative_label
    if negative is None:
        raise InputError(
            f"task {source.card.name!r}: `negative_label` is missing: most candidate pairs have no relation"
        )
    result = ReadResult(splits={})
    for split, names in _PARTS.items():
        part = _part_folder(folder, names)
        documents = _read_abstracts(_file(part, "abstracts"), options.encoding)
        mentions = _read_entities(_file(part, "entities"), documents, options.encoding)
        gold = _read_gold(_file(part, "gold_standard"), mentions, source.card.labels, options.encoding)
        examples: list[dict[str, Any]] = []
        lost: dict[str, int] = defaultdict(int)
        for pmid, (text, title_end) in documents.items():
            pairs = gold.get(pmid, {})
            candidates = list(_candidates(text, title_end, mentions.get(pmid, {})))
            for pair in pairs.keys() - {(head, tail) for head, tail, _ in candidates}:
                for label in pairs[pair]:
                    lost[label] += 1
            for head, tail, sentence in candidates:
                types = pairs.get((head, tail)) or [negative]
                examples.append(_example(source, pmid, text, sentence, mentions[pmid], (head, tail), types))
        result.splits[split] = examples
        result.lost_gold[split] = dict(sorted(lost.items()))
    return result


def _part_folder(folder: Path, names: tuple[str, ...]) -> Path:
    looked_for = [folder / f"chemprot_{name}" for name in names]
    for part in looked_for:
        if part.is_dir():
            return part
    wanted = " or ".join(part.name for part in looked_for)
    raise DataFormatError(folder, f"no folder {wanted}.", remedy="Unpack the three BioCreative VI archives here.")


def _file(part: Path, kind: str) -> Path:
    files = sorted(part.glob(f"*{kind}*.tsv"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataFormatError(part, f"expected one file *{kind}*.tsv, found {found}.")
    return files[0]


def _rows(path: Path, columns: tuple[str, ...], encoding: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in read_lines(path, encoding):
        row = line.split("\t")
        if len(row) != len(columns):
            expected = f"expected {len(columns)} columns separated by tabs ({', '.join(columns)}), found {len(row)}."
            raise DataFormatError(path, expected, line=number)
        yield number, row


def _read_abstracts(path: Path, encoding: str) -> dict[str, tuple[str, int]]:
    """PMID to (title + separator + abstract, end of the title)."""
    documents: dict[str, tuple[str, int]] = {}
    for number, (pmid, title, abstract) in _rows(path, ("PMID", "title", "abstract"), encoding):
        if integer(pmid) is None:
            raise DataFormatError(path, f"{pmid!r} is not a PMID.", line=number)
        if pmid in documents:
            raise DataFormatError(path, f"the abstract {pmid} occurs twice.", line=number)
        if not title.strip():
            raise DataFormatError(path, f"the title of {pmid} is empty.", line=number)
        documents[pmid] = (f"{title}\n{abstract}", len(title))
    if not documents:
        raise DataFormatError(path, "holds no abstract.")
    return documents


def _read_entities(path: Path, documents: Mapping[str, tuple[str, int]], encoding: str) -> _Mentions:
    mentions: _Mentions = defaultdict(dict)
    columns = ("PMID", "entity id", "type", "start", "end", "text")
    for number, (pmid, name, type, first, last, text) in _rows(path, columns, encoding):
        if pmid not in documents:
            raise DataFormatError(path, f"no abstract has the PMID {pmid!r}.", line=number)
        if type not in _TYPES:
            raise DataFormatError(path, f"entity type {type!r}; valid: {', '.join(_TYPES)}.", line=number)
        if name in mentions[pmid]:
            raise DataFormatError(path, f"the entity {name} of {pmid} occurs twice.", line=number)
        start, end = integer(first), integer(last)
        if start is None or end is None or start >= end:
            raise DataFormatError(path, f"{first!r}, {last!r} are not offsets of a mention.", line=number)
        found = documents[pmid][0][start:end]
        if found != text:
            problem = f"the abstract has {found!r} at [{start}, {end}), the entity says {text!r}."
            raise DataFormatError(path, problem, line=number)
        mentions[pmid][name] = _Mention(_TYPES[type], start, end, text)
    return mentions


def _read_gold(path: Path, mentions: _Mentions, labels: tuple[str, ...], encoding: str) -> _Gold:
    gold: _Gold = defaultdict(lambda: defaultdict(list))
    for number, (pmid, label, *arguments) in _rows(path, ("PMID", "CPR group", "Arg1:Ti", "Arg2:Tj"), encoding):
        if label not in labels:
            raise DataFormatError(path, f"relation {label!r} is not in the label set {list(labels)}.", line=number)
        pair = []
        for argument, role, type in zip(arguments, ("Arg1", "Arg2"), ("CHEMICAL", "GENE"), strict=True):
            prefix, _, name = argument.partition(":")
            mention = mentions.get(pmid, {}).get(name)
            if prefix != role or mention is None:
                problem = f"expected {role}:<entity of {pmid}>, found {argument!r}."
                raise DataFormatError(path, problem, line=number)
            if mention.type != type:
                problem = f"{argument} of {pmid} is a {mention.type}, expected a {type}."
                raise DataFormatError(path, problem, line=number)
            pair.append(name)
        types = gold[pmid][pair[0], pair[1]]
        if label in types:
            raise DataFormatError(path, f"{label} of {' and '.join(arguments)} in {pmid} occurs twice.", line=number)
        types.append(label)
    return gold


def _candidates(text: str, title_end: int, mentions: Mapping[str, _Mention]) -> Iterator[tuple[str, str, Span]]:
    """(chemical id, gene id, sentence) of every pair inside one sentence; the title is a sentence of its own."""
    shift = title_end + 1
    sentences = [(0, title_end), *((start + shift, end + shift) for start, end in split_sentences(text[shift:]))]
    for start, end in merge_straddled(sentences, ((m.start, m.end) for m in mentions.values())):
        inside = [(name, m.type) for name, m in mentions.items() if start <= m.start and m.end <= end]
        genes = [name for name, type in inside if type == "GENE"]
        for name, type in inside:
            if type == "CHEMICAL":
                for gene in genes:
                    yield name, gene, (start, end)


def _example(
    source: Source,
    pmid: str,
    text: str,
    sentence: Span,
    mentions: Mapping[str, _Mention],
    pair: tuple[str, str],
    types: list[str],
) -> dict[str, Any]:
    start, end = sentence
    entities = []
    for name in pair:
        mention = mentions[name]
        entities.append(
            make_entity(name, mention.type, [(mention.start - start, mention.end - start)], [mention.text])
        )
    ordered = sorted(types, key=source.card.labels.index)
    relations = [
        {"id": f"R{number}", "type": type, "head": pair[0], "tail": pair[1]}
        for number, type in enumerate(ordered, start=1)
    ]
    return make_example(
        f"{pmid}.{pair[0]}.{pair[1]}",
        source.card.name,
        text[start:end],
        split_group=pmid_group(pmid),
        entities=entities,
        relations=relations,
    )
