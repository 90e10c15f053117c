"""Generic reader of token-per-line files with tag columns (IOB2, IOB1, IOBES), as CoNLL tasks distribute them.

One token a line, a blank line between sentences. The text of an example is its tokens joined by one blank.

Options: `token_column` (0), `tag_column` (-1, the last), `scheme` ("IOB2"), `separator` ("auto": a tab if the first
token line has one, else runs of blanks), `comment` (a prefix of lines to leave out), `encoding`.

A line `-DOCSTART-` begins a document and is no token. Where a file has such lines, the sentences of a document share
their `split_group`; where it has none, nothing tells which sentences belong together, and every sentence is its own
group. In a file separated by tabs a line that begins with `#` and holds no tab can be no token, and is a comment; both
are counted in `dropped`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.readers.base import ReadResult, Source, TextOptions, parse_options, read_lines, split_files
from hf_crosstask.tasks.readers.tags import Scheme, TagError, TokenSpan, entity_spans
from hf_crosstask.tasks.schema import make_entity, make_example

EXTENSIONS = (".tsv", ".iob", ".iob2", ".conll", ".bio", ".txt")
_DOCUMENT_MARK = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")  # not \s: a no-break space may be a token of its own


class IobOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    token_column: int = 0
    tag_column: int = -1
    scheme: Scheme = "IOB2"
    separator: Literal["auto", "tab", "space"] = "auto"
    comment: str | None = None


@dataclass
class _Sentence:
    """Tokens and tags of one sentence, the line of each, and the number of its document (0: before any mark)."""

    document: int
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read(source: Source) -> ReadResult:
    """Read the file of each split.

    Raises:
        InputError: the task type has no entities.
        DataFormatError: a file is missing, a line has the wrong columns, a tag is illegal in the scheme or unknown.
    """
    options = parse_options(source, IobOptions)
    if source.card.type not in ("ner", "span_ner"):
        raise InputError(
            f"task {source.card.name!r}: the reader {source.card.reader!r} reads entities, not a {source.card.type} task"
        )
    result = ReadResult(splits={})
    for split, path in split_files(source, EXTENSIONS).items():
        result.splits[split], dropped = read_file(path, split, source.card, options)
        if dropped:
            result.dropped[split] = dropped
    return result


def read_file(
    path: Path, split: str, card: TaskCard, options: IobOptions
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The examples of one file, and what it holds besides them (reason to count)."""
    examples = []
    dropped: Counter[str] = Counter()
    for number, sentence in enumerate(_sentences(path, options, dropped), start=1):
        try:
            spans = entity_spans(sentence.tags, options.scheme, card.labels)
        except TagError as error:
            raise DataFormatError(path, error.problem, line=sentence.lines[error.index]) from None
        name = f"{split}-{number}"
        group = f"{split}-document-{sentence.document}" if sentence.document else name
        examples.append(token_example(name, card.name, group, sentence.tokens, spans))
    return examples, {reason: count for reason, count in dropped.items() if count}


def token_example(id: str, task: str, split_group: str, tokens: list[str], spans: list[TokenSpan]) -> dict[str, Any]:
    """The example of a tokenized sentence: tokens joined by one blank, entities at their characters."""
    starts, position = [], 0
    for token in tokens:
        starts.append(position)
        position += len(token) + 1
    text = " ".join(tokens)
    entities = []
    for number, span in enumerate(spans, start=1):
        start, end = starts[span.start], starts[span.end - 1] + len(tokens[span.end - 1])
        entities.append(make_entity(f"T{number}", span.type, [(start, end)], [text[start:end]]))
    return make_example(id, task, text, split_group=split_group, entities=entities)


def _sentences(path: Path, options: IobOptions, dropped: Counter[str]) -> Iterator[_Sentence]:
    """The sentences of a file, none empty; counts lines that are no tokens in `dropped`."""
    lines = list(read_lines(path, options.encoding))
    tabs = options.separator == "tab" or (options.separator == "auto" and _has_tabs(line for _, line in lines))
    width = 0
    sentence = _Sentence(document=0)
    for number, line in lines:
        mark = line.startswith(_DOCUMENT_MARK)
        if mark or not line.strip():
            if sentence.tokens:
                yield sentence
            sentence = _Sentence(sentence.document + mark)
            dropped[f"{_DOCUMENT_MARK} lines"] += mark
        elif (options.comment and line.startswith(options.comment)) or (tabs and line[0] == "#" and "\t" not in line):
            dropped["comment lines"] += 1
        else:
            row = line.split("\t") if tabs else _BLANKS.split(line.strip(" \t"))
            width = width or len(row)
            token, tag = _columns(path, number, row, width, options)
            sentence.tokens.append(token)
            sentence.tags.append(tag)
            sentence.lines.append(number)
    if sentence.tokens:
        yield sentence


def _has_tabs(lines: Iterable[str]) -> bool:
    """Whether the first line that is surely a token line has a tab."""
    return "\t" in next((line for line in lines if line.strip() and line[0] != "#" and _DOCUMENT_MARK not in line), "")


def _columns(path: Path, number: int, row: list[str], width: int, options: IobOptions) -> tuple[str, str]:
    if len(row) != width:
        remedy = f" If {row[0]!r} begins a comment, set options.comment." if row[0].startswith("#") else ""
        raise DataFormatError(
            path, f"{len(row)} columns, but the lines above have {width}.", line=number, remedy=remedy.strip() or None
        )
    try:
        token, tag = row[options.token_column], row[options.tag_column]
    except IndexError:
        problem = f"no column {options.token_column} (token) or {options.tag_column} (tag) among {width}: {row!r}."
        raise DataFormatError(path, problem, line=number) from None
    if width < 2:
        problem = f"expected a token and a tag, found one column: {row[0]!r}."
        raise DataFormatError(path, problem, line=number, remedy="Check options.separator.")
    if not token:
        raise DataFormatError(path, "the token is empty.", line=number)
    return token, tag
