"""brat standoff (`.txt` and `.ann` beside each other), generic: entities, events, attributes, relations, references.

Files: a folder (or zip archive) with one sub-folder per split, or a map of split to folder. What the examples are
depends on the task type (`documents.py`, which also explains most options).

| line | becomes |
|---|---|
| `T1<tab>Type 0 5[;8 12]<tab>text` | an entity, discontinuous ones with several parts |
| `E1<tab>Type:T1 [Role:T2 …]` | an entity `E1` in the place of its trigger `T1`, and a relation `Role` for each argument |
| `R1<tab>Type Arg1:T1 Arg2:T2` | a relation, first argument as head |
| `A1<tab>Name T1 [Value]` (or `M1`) | an attribute; a flag has the empty value |
| `N1<tab>Reference T1 Db:Id<tab>text` | a normalization |
| `#1 …` (notes), `* …` (equivalences) | nothing; counted in `dropped` |

Offsets count the characters of the text file, ends exclusive. The third column must equal the text at the offsets,
white space apart: the tools write blanks for line ends inside a mention. Where the file has CRLF line ends and only
single line feeds make the mentions fit, these are taken. Option `mention_text`: `check` (default), or `offsets`, which
believes the offsets where the column differs (as official scorers do) and counts the mentions, unless it differs for
more than half of at least three mentions of a document: then the text is not the annotated one.

`write_brat` writes examples back in this format, the official submission format of the n2c2 tracks.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_crosstask import atomic
from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import ReadResult, Source, parse_options
from hf_crosstask.tasks.readers.documents import Document, DocumentOptions, slices
from hf_crosstask.tasks.readers.files import FileTree, file_name, numbered_lines, split_trees, unique_stems, write_note
from hf_crosstask.tasks.readers.views import document_examples
from hf_crosstask.tasks.schema import make_entity

_ENTITY = re.compile(r"(?P<type>\S+) (?P<spans>[0-9]{1,9} [0-9]{1,9}(?:;[0-9]{1,9} [0-9]{1,9})*)")
_ARGUMENT = re.compile(r"(?P<role>[^\s:]+):(?P<id>[^\s:]+)")
_REFERENCE = re.compile(r"\S+ (?P<target>\S+) (?P<db>[^\s:]+):(?P<id>\S+)")
_SUFFIXES = (".ann", ".txt")


class BratOptions(DocumentOptions):
    """Options of the reader; the module docstring explains them."""

    mention_text: Literal["check", "offsets"] = "check"


@dataclass
class _Trigger:
    """An entity line: a mention, or the trigger of events."""

    type: str
    spans: list[tuple[int, int]]
    text: str
    line: int


@dataclass
class _Annotations:
    """The lines of one `.ann` file, not yet resolved."""

    mentions: dict[str, _Trigger] = field(default_factory=dict)
    events: dict[str, tuple[str, str, list[tuple[str, str]], int]] = field(default_factory=dict)
    relations: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    attributes: list[tuple[str, str, str, int]] = field(default_factory=list)
    references: list[tuple[str, str, str, int]] = field(default_factory=list)


def read(source: Source) -> ReadResult:
    """Read the documents of each split.

    Raises:
        DataFormatError: a file is missing or breaks the format, offsets are wrong, a reference leads nowhere.
    """
    options = parse_options(source, BratOptions)
    splits: dict[str, list[Document]] = {}
    dropped: dict[str, Counter[str]] = {}
    trees = split_trees(source, lambda name: name.endswith(_SUFFIXES), "pairs of .txt and .ann files")
    for split, tree in trees.items():
        dropped[split] = Counter()
        splits[split] = [
            read_document(name, tree, text_file, note_file, options, dropped[split])
            for name, text_file, note_file in _paired(tree)
        ]
    return document_examples(source, options, splits, dropped)


def _paired(tree: FileTree) -> Iterator[tuple[str, str, str]]:
    """(document name, .txt, .ann) of each document."""
    files = {}
    for suffix in _SUFFIXES:
        names = [name for name in tree.names if name.endswith(suffix)]
        files[suffix] = unique_stems(tree.root, names, lambda name: name.rsplit("/", 1)[-1][:-4])
    for suffix, other in (_SUFFIXES, _SUFFIXES[::-1]):
        for document, name in files[suffix].items():
            if document not in files[other]:
                raise DataFormatError(tree.where(name), f"no {document}{other} belongs to this file.")
    for document, name in files[".txt"].items():
        yield document, name, files[".ann"][document]


def read_document(
    name: str, tree: FileTree, text_file: str, note_file: str, options: BratOptions, dropped: Counter[str]
) -> Document:
    """One document; errors as `read`."""
    where = tree.where(note_file)
    text = tree.read_text(text_file, options.encoding)
    notes = _parse(where, tree.read_text(note_file, options.encoding), dropped)
    text = _fitting_text(where, text, notes.mentions, options, dropped)
    return _resolve(Document(name, text, where), notes)


def _parse(where: str, content: str, dropped: Counter[str]) -> _Annotations:
    notes = _Annotations()
    seen: set[str] = set()

    def broken(expected: str, line: str, number: int) -> DataFormatError:
        return DataFormatError(where, f"expected `{expected}`, found {line[:80]!r}.", line=number)

    for number, line in numbered_lines(content):
        if not line.strip():
            continue
        if line[0] in "#*":
            dropped["annotator notes" if line[0] == "#" else "equivalences"] += 1
            continue
        name, _, rest = line.partition("\t")
        if name in seen:
            raise DataFormatError(where, f"the id {name} occurs twice.", line=number)
        seen.add(name)
        body, tab, tail = rest.partition("\t")
        match name[0] if re.fullmatch(r"[A-Z][A-Za-z0-9_\-]*", name) else "":
            case "T":
                match = _ENTITY.fullmatch(body)
                if match is None or not tab:
                    raise broken("T1<tab>Type start end<tab>text", line, number)
                spans = [tuple(map(int, span.split(" "))) for span in match["spans"].split(";")]
                notes.mentions[name] = _Trigger(match["type"], [(s, e) for s, e in spans], tail, number)
            case "E":
                arguments = [_ARGUMENT.fullmatch(part) for part in body.split()]
                found = [(match["role"], match["id"]) for match in arguments if match is not None]
                if not found or len(found) < len(arguments):
                    raise broken("E1<tab>Type:T1 Role:T2", line, number)
                notes.events[name] = (*found[0], found[1:], number)
            case "R":
                type, *parts = body.split() or [""]
                ends = [(m["role"], m["id"]) for part in parts if (m := _ARGUMENT.fullmatch(part)) is not None]
                if len(parts) != 2 or len(ends) != 2:
                    raise broken("R1<tab>Type Arg1:T1 Arg2:T2", line, number)
                if {role for role, _ in ends} == {"Arg1", "Arg2"}:
                    ends.sort()
                notes.relations.append((name, type, ends[0][1], ends[1][1], number))
            case "A" | "M":
                words = body.rstrip().split(" ", 2)
                if len(words) < 2 or not all(words):
                    raise broken("A1<tab>Name T1 [Value]", line, number)
                notes.attributes.append((words[0], words[1], words[2] if len(words) > 2 else "", number))
            case "N":
                match = _REFERENCE.fullmatch(body)
                if match is None:
                    raise broken("N1<tab>Reference T1 Db:Id<tab>text", line, number)
                notes.references.append((match["target"], match["db"], match["id"], number))
            case _:
                raise broken("T, E, R, A, M, N, # or * and a number, then a tab", line, number)
    return notes


def _fitting_text(
    where: str, text: str, mentions: Mapping[str, _Trigger], options: BratOptions, dropped: Counter[str]
) -> str:
    """The text that the offsets were made on: as it is, or with single line feeds for CRLF."""
    candidates = [text, text.replace("\r\n", "\n")] if "\r\n" in text else [text]
    misfits = [[m for m in mentions.values() if not _fits(candidate, m)] for candidate in candidates]
    best = min(range(len(candidates)), key=lambda number: len(misfits[number]))
    strict = options.mention_text == "check" or (len(mentions) > 2 and 2 * len(misfits[best]) > len(mentions))
    for mention in misfits[best]:
        try:
            parts = slices(candidates[best], mention.spans)
        except ValueError as error:
            raise DataFormatError(where, str(error), line=mention.line) from None
        if strict:
            problem = f"the text has {' '.join(parts)!r} at {mention.spans}, the mention says {mention.text!r}"
            more = f" ({len(misfits[best])} mentions of this document differ)." if len(misfits[best]) > 1 else "."
            remedy = (
                "Is it the annotated text? To believe the offsets of a few, set options.mention_text to 'offsets'."
            )
            raise DataFormatError(where, problem + more, line=mention.line, remedy=remedy)
        dropped["mention texts that differ from the text at their offsets"] += 1
    return candidates[best]


def _fits(text: str, mention: _Trigger) -> bool:
    if not all(0 <= start < end <= len(text) for start, end in mention.spans):
        return False
    return " ".join(" ".join(slices(text, mention.spans)).split()) == " ".join(mention.text.split())


def _resolve(document: Document, notes: _Annotations) -> Document:
    """Entities and relations; an event takes the place of its trigger."""
    events_of: dict[str, list[str]] = defaultdict(list)
    for event, (_, trigger, _, line) in notes.events.items():
        if trigger not in notes.mentions:
            raise DataFormatError(document.where, f"{event} has the unknown trigger {trigger}.", line=line)
        events_of[trigger].append(event)
    entities: dict[str, dict[str, Any]] = {}

    def add(name: str, type: str, mention: _Trigger) -> None:
        parts = slices(document.text, mention.spans)
        entities[name] = make_entity(name, type, mention.spans, parts)

    for name, mention in notes.mentions.items():
        for event in events_of[name]:
            add(event, notes.events[event][0], mention)
        if not events_of[name]:
            add(name, mention.type, mention)

    def targets(name: str, line: int) -> list[str]:
        """The entity of an id; a trigger stands for its events."""
        found = [name] if name in entities else events_of.get(name, [])
        if not found:
            raise DataFormatError(document.where, f"the id {name!r} is not annotated.", line=line)
        return found

    relations = []
    for event, (_, _, arguments, line) in notes.events.items():
        for number, (role, argument) in enumerate(arguments, start=1):
            tail = targets(argument, line)[0]
            relations.append({"id": f"{event}.{number}", "type": role, "head": event, "tail": tail})
    for name, type, head, tail, line in notes.relations:
        ends = {"head": targets(head, line)[0], "tail": targets(tail, line)[0]}
        relations.append({"id": name, "type": type, **ends})
    for name, target, value, line in notes.attributes:
        for entity in targets(target, line):
            entities[entity]["attributes"].append({"name": name, "value": value})
    for target, db, id, line in notes.references:
        for entity in targets(target, line):
            entities[entity]["normalized"].append({"db": db, "id": id})
    return Document(document.name, document.text, document.where, list(entities.values()), relations)


def write_brat(examples: Iterable[Mapping[str, Any]], folder: str | Path) -> None:
    """Write documents as `<id>.txt` and `<id>.ann`, one pair an example.

    Entities whose id begins with `E` become events (an argument for each of their relations whose id begins with
    theirs), others keep their id if it is a brat id and get one otherwise. Reading the folder again gives the same
    examples, as long as ids are brat ids.

    Raises:
        InputError: an example's id is no file name.
    """
    for example in examples:
        path = Path(folder) / file_name(example["id"])
        write_note(path.with_name(path.name + ".txt"), example["text"])
        lines = _lines(example["entities"], example["relations"])
        atomic.write_text(path.with_name(path.name + ".ann"), "".join(f"{line}\n" for line in lines))


def _lines(entities: Sequence[Mapping[str, Any]], relations: Sequence[Mapping[str, str]]) -> list[str]:
    events = {entity["id"] for entity in entities if re.fullmatch(r"E[0-9]+", entity["id"])}
    taken = {entity["id"] for entity in entities if re.fullmatch(r"T[0-9]+", entity["id"])}
    fresh = (id for number in range(1, 10**9) if (id := f"T{number}") not in taken)
    trigger = {e["id"]: e["id"] if e["id"] in taken else next(fresh) for e in entities}
    name = {entity: entity if entity in events else trigger[entity] for entity in trigger}
    own = [r for r in relations if r["head"] in events and r["id"].startswith(f"{r['head']}.")]
    lines, attributes, references = [], [], []
    for entity in entities:
        spans = ";".join(f"{start} {end}" for start, end in entity["offsets"])
        text = re.sub(r"\s", " ", " ".join(entity["text"]))
        lines.append(f"{trigger[entity['id']]}\t{entity['type']} {spans}\t{text}")
        if entity["id"] in events:
            arguments = "".join(f" {r['type']}:{name[r['tail']]}" for r in own if r["head"] == entity["id"])
            lines.append(f"{entity['id']}\t{entity['type']}:{trigger[entity['id']]}{arguments or ' '}")
        attributes += [f"{a['name']} {name[entity['id']]} {a['value']}".rstrip() for a in entity["attributes"]]
        references += [f"Reference {name[entity['id']]} {n['db']}:{n['id']}\t{text}" for n in entity["normalized"]]
    others = [relation for relation in relations if relation not in own]
    known = {relation["id"] for relation in others if re.fullmatch(r"R[0-9]+", relation["id"])}
    free = (id for number in range(1, 10**9) if (id := f"R{number}") not in known)
    for relation in others:
        id = relation["id"] if relation["id"] in known else next(free)
        lines.append(f"{id}\t{relation['type']} Arg1:{name[relation['head']]} Arg2:{name[relation['tail']]}")
    lines += [f"A{number}\t{attribute}" for number, attribute in enumerate(attributes, start=1)]
    return lines + [f"N{number}\t{reference}" for number, reference in enumerate(references, start=1)]
