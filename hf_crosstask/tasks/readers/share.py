"""What the two ShARe formats share: pairs of a note's text and its pipe file, spans, and CUIs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hf_crosstask import atomic
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.readers.base import ReadResult, Source
from hf_crosstask.tasks.readers.documents import Document, DocumentOptions, fitting_line_ends, slices
from hf_crosstask.tasks.readers.files import file_name, split_trees, unique_stems, write_note
from hf_crosstask.tasks.readers.sentences import Span
from hf_crosstask.tasks.readers.views import document_examples
from hf_crosstask.tasks.schema import make_entity

CUI_LESS = "CUI-less"
_TEXT = re.compile(r"(?:.*/)?(?P<note>[^/]+?)\.(?:text|txt)", re.DOTALL)
_PIPE = re.compile(r"(?:.*/)?(?P<note>[^/]+?)\.pipe(?:\.txt)?", re.DOTALL)
_CUI = re.compile(r"C[0-9]{7}", re.IGNORECASE)


class Disorder(NamedTuple):
    """One line of a pipe file: document name, entity type, parts, CUI (None: CUI-less) and attributes."""

    document: str
    type: str
    spans: Sequence[Span]
    cui: str | None
    attributes: Sequence[tuple[str, str]] = ()


class LineError(ValueError):
    """A line that breaks the format; the reader adds file and line."""


def read_notes(source: Source, options: DocumentOptions, parse: Callable[[str], Disorder]) -> ReadResult:
    """Read the notes of each split.

    Args:
        source: of the task.
        options: of the reader.
        parse: reads one line of the pipe file, or raises `LineError`.

    Raises:
        DataFormatError: a file is missing, a line breaks the format, offsets are wrong.
    """

    def wanted(name: str) -> bool:
        return bool(_PIPE.fullmatch(name) or _TEXT.fullmatch(name))

    splits: dict[str, list[Document]] = {}
    for split, tree in split_trees(source, wanted, "pairs of .text and .pipe files").items():
        pipes = [name for name in tree.names if _PIPE.fullmatch(name)]
        texts = [name for name in tree.names if not _PIPE.fullmatch(name)]
        pipe_of = unique_stems(tree.root, pipes, lambda name: _stem(_PIPE, name))
        text_of = unique_stems(tree.root, texts, lambda name: _stem(_TEXT, name))
        for left, right, missing in ((text_of, pipe_of, ".pipe"), (pipe_of, text_of, ".text")):
            for note, name in left.items():
                if note not in right:
                    raise DataFormatError(tree.where(name), f"no {note}{missing} belongs to this file.")
        splits[split] = []
        for note, name in text_of.items():
            where = tree.where(pipe_of[note])
            lines = list(tree.read_lines(pipe_of[note], options.encoding))
            disorders = _disorders(where, note, lines, parse)
            text = fitting_line_ends(
                tree.read_text(name, options.encoding), [span for _, d in disorders for span in d.spans]
            )
            splits[split].append(Document(note, text, where, _entities(where, text, disorders)))
    return document_examples(source, options, splits, {split: Counter() for split in splits})


def _stem(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.fullmatch(name)
    return match["note"] if match is not None else name


def _disorders(
    where: str, note: str, lines: Iterable[tuple[int, str]], parse: Callable[[str], Disorder]
) -> list[tuple[int, Disorder]]:
    found = []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            disorder = parse(line)
        except LineError as error:
            raise DataFormatError(where, str(error), line=number) from None
        if re.sub(r"\.(text|txt|pipe|pipe\.txt)$", "", disorder.document) != note:
            problem = f"the line is of document {disorder.document!r}, the file of {note!r}."
            raise DataFormatError(where, problem, line=number)
        found.append((number, disorder))
    return found


def _entities(where: str, text: str, disorders: Iterable[tuple[int, Disorder]]) -> list[dict[str, Any]]:
    entities = []
    for index, (number, disorder) in enumerate(disorders, start=1):
        try:
            parts = slices(text, disorder.spans)
        except ValueError as error:
            raise DataFormatError(where, str(error), line=number) from None
        normalized = [{"db": "UMLS", "id": disorder.cui}] if disorder.cui else []
        attributes = [{"name": name, "value": value} for name, value in disorder.attributes]
        entities.append(
            make_entity(
                f"T{index}", disorder.type, disorder.spans, parts, normalized=normalized, attributes=attributes
            )
        )
    return entities


def parse_cui(text: str) -> str | None:
    """The CUI in capitals, None for CUI-less.

    Raises:
        LineError: it is neither.
    """
    if text.lower().replace("_", "-") == CUI_LESS.lower():
        return None
    if not _CUI.fullmatch(text):
        raise LineError(f"expected a CUI (C and seven digits) or {CUI_LESS}, found {text!r}.")
    return text.upper()


def parse_offset(text: str) -> int:
    """A character offset.

    Raises:
        LineError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise LineError(f"expected a character offset, found {text!r}.")
    return int(text)


def entity_cui(entity: Mapping[str, Any]) -> str:
    """The CUI of an entity as the formats write it."""
    ids = [item["id"] for item in entity["normalized"] if item["db"] == "UMLS"]
    if len(ids) > 1:
        raise InputError(f"entity {entity['id']!r} has {len(ids)} CUIs; the format holds one")
    return ids[0] if ids else CUI_LESS


def write_notes(
    examples: Iterable[Mapping[str, Any]], folder: str | Path, line: Callable[[str, Mapping[str, Any]], str]
) -> None:
    """Write each document as `<id>.text` and `<id>.pipe`; `line` writes one entity."""
    for example in examples:
        path = Path(folder) / file_name(example["id"])
        write_note(path.with_name(path.name + ".text"), example["text"])
        lines = [line(example["id"], entity) + "\n" for entity in example["entities"]]
        atomic.write_text(path.with_name(path.name + ".pipe"), "".join(lines))
