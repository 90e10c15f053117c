"""SemEval-2014 Task 7 and ShARe/CLEF eHealth 2013: disorder mentions with CUIs, double-pipe files.

Files: pairs `<note>.text` and `<note>.pipe` (CLEF: `<note>.txt`, `<note>.pipe.txt`) below each split's folder. A line:

    <note>.txt||Disease_Disorder||<CUI or CUI-less>||start||end[||start||end ...]

Offsets count characters, ends exclusive; several pairs make a discontinuous mention, and mentions overlap. The CUI is
the entity's normalization (`UMLS`), CUI-less none. Notes of SemEval-2014, SemEval-2015 and CLEF share their names and
therefore their `split_group`: the 2014 test notes are in the 2015 development set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_crosstask.tasks.readers.base import ReadResult, Source, parse_options
from hf_crosstask.tasks.readers.documents import DocumentOptions
from hf_crosstask.tasks.readers.share import (
    Disorder,
    LineError,
    entity_cui,
    parse_cui,
    parse_offset,
    read_notes,
    write_notes,
)


def read(source: Source) -> ReadResult:
    """Read the notes of each split; options are those of `documents.py`.

    Raises:
        DataFormatError: a file is missing, a line breaks the format, offsets are wrong.
    """
    return read_notes(source, parse_options(source, DocumentOptions), _parse)


def _parse(line: str) -> Disorder:
    columns = line.split("||")
    if len(columns) < 5 or len(columns) % 2 == 0:
        problem = f"expected `note||type||CUI||start||end[||start||end]`, found {len(columns)} columns."
        raise LineError(problem)
    document, type, cui, *offsets = columns
    if not type:
        raise LineError("the type is empty.")
    numbers = [parse_offset(offset) for offset in offsets]
    spans = list(zip(numbers[::2], numbers[1::2], strict=True))
    return Disorder(document, type, spans, parse_cui(cui))


def write_share2014(examples: Iterable[Mapping[str, Any]], folder: str | Path) -> None:
    """Write documents as `<id>.text` and `<id>.pipe`, the official submission format.

    Raises:
        InputError: an example's id is no file name, or an entity has several CUIs.
    """

    def line(note: str, entity: Mapping[str, Any]) -> str:
        offsets = [str(position) for span in entity["offsets"] for position in span]
        return "||".join([f"{note}.txt", entity["type"], entity_cui(entity), *offsets])

    write_notes(examples, folder, line)
