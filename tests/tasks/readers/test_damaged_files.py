"""Whatever happens to a file, a reader gives checked examples or a DataFormatError, never another exception."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task

Corpora = Mapping[str, tuple[dict[str, str], dict[str, Any]]]
PIECES = [
    b"",
    b"\t",
    b"\n",
    b"\r\n",
    b"|",
    b'"',
    b"0",
    b"-1",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"I-GENE",
    b"null",
    b"9" * 50,
]


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` cut off, or with a stretch replaced, doubled or removed."""
    start = draw(st.integers(0, len(content)))
    if draw(st.booleans()):
        return content[:start]
    end = draw(st.integers(start, min(len(content), start + draw(st.sampled_from([0, 1, 4, 200])))))
    piece = draw(st.sampled_from([*PIECES, content[start:end] * 2]) | st.binary(max_size=4))
    return content[:start] + piece + content[end:]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_damage(corpora: Corpora, data: st.DataObject) -> None:
    files, spec = corpora[data.draw(st.sampled_from(sorted(corpora)))]
    broken = data.draw(st.sampled_from(sorted(files)))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / "task" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.draw(damage(text.encode())) if name == broken else text.encode())
        message, smallest = "", 1
        try:
            loaded = load_task(TaskSpec(**spec), data_dir=Path(folder))
            smallest = min(len(rows) for rows in loaded.splits.values())
        except DataFormatError as error:
            message = str(error)
        assert "\n" not in message
        assert smallest > 0


def test_undamaged(corpora: Corpora) -> None:
    for files, spec in corpora.values():
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder) / "task" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            assert load_task(TaskSpec(**spec), data_dir=Path(folder)).fingerprint
