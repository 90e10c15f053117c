"""SemEval-2015 Task 14: disorder mentions with CUIs and eight attributes, single-pipe files of 19 columns.

Files: pairs `<note>.text` and `<note>.pipe` below each split's folder (`data/train/discharge/…`). A line:

    note.text|spans|CUI|neg|cue|subj|cue|uncert|cue|course|cue|severity|cue|cond|cue|generic|cue|bodyloc|cue

- `spans` are `a-b[,c-d …]`, ascending, ends exclusive; a trailing pipe is allowed.
- Each of the eight values is an attribute of the entity (`Neg`, `Subj`, …), `null` included where the file says so; a
  cue that is not `null` is a second one (`Neg_cue`, its spans as written). Values are lower-cased; `doner_other` is the
  official scorer's spelling of `donor_other`, and both are accepted. `Bodyloc` is `null` or CUIs.
- The CUI is the entity's normalization (`UMLS`), CUI-less none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_crosstask.errors import InputError
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

ENTITY_TYPE = "Disease_Disorder"
NULL = "null"
#: The slots in the order of the columns, with their values (None: CUIs).
SLOTS: dict[str, tuple[str, ...] | None] = {
    "Neg": ("no", "yes"),
    "Subj": ("patient", "family_member", "donor_other", "doner_other", "other"),
    "Uncert": ("no", "yes"),
    "Course": ("unmarked", "changed", "increased", "decreased", "improved", "worsened", "resolved"),
    "Severity": ("unmarked", "slight", "moderate", "severe"),
    "Cond": ("false", "true"),
    "Generic": ("false", "true"),
    "Bodyloc": None,
}
_COLUMNS = 3 + 2 * len(SLOTS)


def read(source: Source) -> ReadResult:
    """Read the notes of each split; options are those of `documents.py`.

    Raises:
        DataFormatError: a file is missing, a line breaks the format, offsets are wrong, a value is unknown.
    """
    return read_notes(source, parse_options(source, DocumentOptions), _parse)


def _parse(line: str) -> Disorder:
    columns = line.split("|")
    if len(columns) == _COLUMNS + 1 and not columns[-1]:
        columns.pop()
    if len(columns) != _COLUMNS:
        raise LineError(f"expected {_COLUMNS} columns separated by `|`, found {len(columns)}.")
    document, spans, cui, *slots = columns
    attributes = []
    for (name, values), value, cue in zip(SLOTS.items(), slots[::2], slots[1::2], strict=True):
        attributes.append((name, _value(name, values, value)))
        if cue.lower() != NULL:
            _spans(cue)
            attributes.append((f"{name}_cue", cue))
    return Disorder(document, ENTITY_TYPE, _spans(spans), parse_cui(cui), attributes)


def _spans(text: str) -> list[tuple[int, int]]:
    pairs = []
    for part in text.split(","):
        start, dash, end = part.partition("-")
        if not dash:
            raise LineError(f"expected spans `start-end[,start-end]`, found {text!r}.")
        pairs.append((parse_offset(start), parse_offset(end)))
    if pairs != sorted(pairs):
        raise LineError(f"the spans {text!r} do not ascend, which the official scorer needs.")
    return pairs


def _value(name: str, values: tuple[str, ...] | None, value: str) -> str:
    if value.lower() == NULL:
        return NULL
    if values is None:
        if not re.fullmatch(r"(C[0-9]{7}|CUI-less)([,;](C[0-9]{7}|CUI-less))*", value, re.IGNORECASE):
            raise LineError(f"{name} is {value!r}; expected `null` or CUIs.")
        return value
    if value.lower() not in values:
        raise LineError(f"{name} is {value!r}; valid: {', '.join(values)}, {NULL}.")
    return value.lower()


def write_share2015(examples: Iterable[Mapping[str, Any]], folder: str | Path) -> None:
    """Write documents as `<id>.text` and `<id>.pipe`, the official submission format; slots without value are `null`.

    Raises:
        InputError: an example's id is no file name, an entity has several CUIs, or a value holds a pipe.
    """

    def line(note: str, entity: Mapping[str, Any]) -> str:
        values = {item["name"]: item["value"] for item in entity["attributes"]}
        spans = ",".join(f"{start}-{end}" for start, end in sorted(entity["offsets"]))
        slots = [values.get(key, NULL) for slot in SLOTS for key in (slot, f"{slot}_cue")]
        if any("|" in slot for slot in slots):
            raise InputError(f"entity {entity['id']!r} of {note}: a value holds the separator `|`")
        return "|".join([f"{note}.text", spans, entity_cui(entity), *slots])

    write_notes(examples, folder, line)
