"""PubTator, generic: documents of title and abstract with mentions and concept relations, all in one file per split.

Files: one per split (`train.txt`, … or `.pubtator`, `.PubTator.txt`), or a map of split to file; documents separated by
blank lines:

    1234|t|Title
    1234|a|Abstract
    1234<tab>start<tab>end<tab>mention<tab>Type<tab>concept ids[<tab>parts of a composite mention]
    1234<tab>RelationType<tab>concept id<tab>concept id

Offsets count characters of title + one character + abstract, ends exclusive; the mention must equal the text at them.
Concept ids become normalizations (several in one mention are separated by `|`, `,`, `;` or `+`; `-1` and `-` are none);
`OMIM:123` has the database `OMIM`, an id without prefix that of option `database`. A document that occurs twice keeps
both copies, the second with the id `<pmid>-2` and the same `split_group`.

Relations hold between concepts. For a `relation` task every pair of concepts of a document whose types are a candidate
pair is one example: the whole document, with the two mentions closest to each other; a gold relation of a concept
without a mention is counted in `lost_gold`. For `ner` and `classification` relation lines are counted in `dropped`.
Options are those of `documents.py` (except `distance`), `database`, and `mention_text`: `check` (default), or `offsets`,
which believes the offsets where the mention differs from the text, and counts them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from hf_crosstask import atomic
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    integer,
    parse_options,
    pmid_group,
    read_lines,
    split_files,
)
from hf_crosstask.tasks.readers.documents import Document, DocumentOptions, outer_span, slices
from hf_crosstask.tasks.readers.views import PairView, document_examples
from hf_crosstask.tasks.schema import make_entity

EXTENSIONS = (".txt", ".pubtator", ".PubTator", ".PubTator.txt", ".pubtator.txt")
_SECTION = re.compile(r"(?P<pmid>[0-9]{1,9})\|(?P<kind>[ta])\|(?P<text>.*)", re.DOTALL)
_IDS = re.compile(r"[|,;+]")
_NO_ID = frozenset({"", "-1", "-"})


class PubtatorOptions(DocumentOptions):
    """Options of the reader; the module docstring explains them."""

    database: str = ""
    mention_text: Literal["check", "offsets"] = "check"


@dataclass
class _Block:
    """The lines of one document: title and abstract by their letter, and the rows of columns below them."""

    pmid: str
    line: int
    sections: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def read(source: Source) -> ReadResult:
    """Read the file of each split.

    Raises:
        DataFormatError: a file is missing or breaks the format, a mention is not at its offsets.
    """
    options = parse_options(source, PubtatorOptions)
    splits: dict[str, list[Document]] = {}
    dropped: dict[str, Counter[str]] = {}
    copies: Counter[str] = Counter()
    for split, path in split_files(source, EXTENSIONS).items():
        dropped[split] = Counter()
        splits[split] = [
            _document(source, path, block, options, copies, dropped[split])
            for block in _blocks(path, options.encoding)
        ]
        if not splits[split]:
            raise DataFormatError(path, "holds no document (`PMID|t|title`).")
    return document_examples(source, options, splits, dropped, concept_pairs)


def _blocks(path: Path, encoding: str) -> Iterator[_Block]:
    block: _Block | None = None
    for number, line in read_lines(path, encoding):
        if not line.strip():
            if block is not None:
                yield _whole(path, block)
            block = None
            continue
        match = _SECTION.fullmatch(line)
        if match is not None and (block is None or (match["kind"] == "t" and "t" in block.sections)):
            if block is not None:  # a document may follow without a blank line
                yield _whole(path, block)
            block = _Block(match["pmid"], number)
        if block is None:
            raise DataFormatError(path, f"expected `PMID|t|title`, found {line[:60]!r}.", line=number)
        if match is None:
            block.rows.append((number, line.split("\t")))
        elif match["pmid"] != block.pmid or match["kind"] in block.sections or block.rows:
            problem = f"expected one title and one abstract of {block.pmid}, found {line[:60]!r}."
            raise DataFormatError(path, problem, line=number)
        else:
            block.sections[match["kind"]] = match["text"]
    if block is not None:
        yield _whole(path, block)


def _whole(path: Path, block: _Block) -> _Block:
    if set(block.sections) != {"t", "a"}:
        problem = f"the document {block.pmid} needs `{block.pmid}|t|` and `{block.pmid}|a|`."
        raise DataFormatError(path, problem, line=block.line)
    return block


def _document(
    source: Source,
    path: Path,
    block: _Block,
    options: PubtatorOptions,
    copies: Counter[str],
    dropped: Counter[str],
) -> Document:
    text = f"{block.sections['t']}\n{block.sections['a']}"
    entities: list[dict[str, Any]] = []
    relations: list[dict[str, str]] = []
    for number, row in block.rows:
        if row[0] != block.pmid:
            problem = f"expected a line of the document {block.pmid}, found {row[0][:40]!r}."
            raise DataFormatError(path, problem, line=number)
        if len(row) in (5, 6, 7) and integer(row[1]) is not None and integer(row[2]) is not None:
            entities.append(_entity(path, number, row, f"T{len(entities) + 1}", text, options, dropped))
        elif len(row) in (4, 5) and all(row[1:4]) and integer(row[1]) is None:
            name = f"R{len(relations) + 1}"
            relations.append({"id": name, "type": row[1], "head": _bare(row[2]), "tail": _bare(row[3])})
        else:
            expected = "a mention (PMID, start, end, text, type, ids) or a relation (PMID, type, id, id)"
            raise DataFormatError(path, f"expected {expected} separated by tabs, found {row!r:.90}.", line=number)
    if relations and source.card.type != "relation":
        dropped["relations between concepts"] += len(relations)
        relations = []
    copies[block.pmid] += 1
    name = block.pmid if copies[block.pmid] == 1 else f"{block.pmid}-{copies[block.pmid]}"
    return Document(
        name,
        text,
        f"{path}:{block.line}",
        entities,
        relations,
        concepts=True,
        group=pmid_group(block.pmid),
    )


def _entity(
    path: Path,
    number: int,
    row: Sequence[str],
    name: str,
    text: str,
    options: PubtatorOptions,
    dropped: Counter[str],
) -> dict[str, Any]:
    span, mention, type, ids = (int(row[1]), int(row[2])), row[3], row[4], row[5] if len(row) > 5 else ""
    try:
        parts = slices(text, [span])
    except ValueError as error:
        raise DataFormatError(path, str(error), line=number) from None
    if not type:
        raise DataFormatError(path, "the mention has no type.", line=number)
    if " ".join(parts[0].split()) != " ".join(mention.split()):
        if options.mention_text == "check":
            problem = f"the text has {parts[0]!r} at [{row[1]}, {row[2]}), the mention says {mention!r}."
            remedy = "To believe the offsets, set options.mention_text to 'offsets'."
            raise DataFormatError(path, problem, line=number, remedy=remedy)
        dropped["mention texts that differ from the text at their offsets"] += 1
    normalized = []
    for id in _IDS.split(ids):
        if id.strip() not in _NO_ID:
            prefix, colon, _ = id.strip().partition(":")
            normalized.append({"db": prefix if colon else options.database, "id": _bare(id)})
    return make_entity(name, type, [span], parts, normalized=normalized)


def _bare(id: str) -> str:
    """A concept id without its database."""
    return id.strip().rpartition(":")[2]


def concept_pairs(view: PairView, document: Document) -> Iterator[dict[str, Any]]:
    """The candidate pairs of concepts, each shown by its two closest mentions in the whole document."""
    mentions: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entity in document.entities:
        for id in {item["id"] for item in entity["normalized"]}:
            mentions[id].append(entity)
    gold, types = view.gold(document), document.types()
    carried = set()
    span = (0, len(document.text))
    for head, tail in product(mentions, repeat=2):
        pairs = [pair for pair in product(mentions[head], mentions[tail]) if pair[0]["id"] != pair[1]["id"]]
        if head == tail or (types[head], types[tail]) not in view.types or not pairs:
            continue
        carried.add((head, tail))
        closest = min(pairs, key=_gap)
        yield view.example(document, span, closest, gold.get((head, tail), []), f"{head}.{tail}")
    for missed in gold.keys() - carried:
        view.lost.update(gold[missed])


def _gap(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> int:
    (first, last), (start, end) = (outer_span(entity) for entity in pair)
    return max(start - last, first - end)


def write_pubtator(examples: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write documents into one file, relations left out; the first line of a text is its title.

    Raises:
        InputError: a text has more than two lines, or an entity several parts: the format has no place for them.
    """
    blocks = []
    for example in examples:
        pmid = example["split_group"].removeprefix("pmid:")
        title, _, abstract = example["text"].partition("\n")
        if "\n" in abstract or any(len(entity["offsets"]) != 1 for entity in example["entities"]):
            raise InputError(f"example {example['id']!r}: PubTator holds two lines of text and continuous mentions")
        lines = [f"{pmid}|t|{title}", f"{pmid}|a|{abstract}"]
        for entity in example["entities"]:
            ids = "|".join(f"{n['db']}:{n['id']}" if n["db"] else n["id"] for n in entity["normalized"]) or "-1"
            (start, end), text = entity["offsets"][0], entity["text"][0].replace("\n", " ")
            lines.append(f"{pmid}\t{start}\t{end}\t{text}\t{entity['type']}\t{ids}")
        blocks.append("\n".join(lines) + "\n")
    atomic.write_text(path, "\n".join(blocks))
