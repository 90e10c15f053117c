"""Strict JSON: what Python's parser lets pass and no data file should hold is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from hf_crosstask.errors import DataFormatError


class _Refused(Exception):
    """A problem found while parsing; `parse_object` adds the file and the line."""


def parse_object(text: str, path: Path, *, line: int | None = None) -> dict[str, Any]:
    """The JSON object that `text` holds.

    Args:
        text: of one line, or of a whole file.
        path, line: named in errors; without `line` the line of a syntax error is counted within `text`.

    Raises:
        DataFormatError: `text` is not JSON or no object; a key occurs twice in an object; NaN or infinity; half a
            surrogate pair (no valid Unicode text); nesting or integers beyond what Python reads.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        number = line if line is not None else error.lineno
        problem = f"is not JSON: {error.msg} at column {error.colno}."
        raise DataFormatError(path, problem, line=number, remedy="Is the file cut off?") from None
    except _Refused as error:
        raise DataFormatError(path, str(error), line=line) from None
    except UnicodeEncodeError:
        raise DataFormatError(path, "holds half of a surrogate pair (\\ud800–\\udfff).", line=line) from None
    except (RecursionError, ValueError) as error:  # nesting; an integer of thousands of digits
        raise DataFormatError(path, f"is JSON beyond what can be read: {error}.", line=line) from None
    if not isinstance(value, dict):
        raise DataFormatError(path, f"expected a JSON object, found a {type(value).__name__}.", line=line)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Refused(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice in one object.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON.")
