"""Readers: one module per original format, each a function `read(source: Source) -> ReadResult`."""

from __future__ import annotations

from hf_crosstask.tasks.readers import bc2gm, chemprot, hub, iob, jsonl, pubmedqa, table
from hf_crosstask.tasks.readers.base import Reader, ReadResult, Source

__all__ = ["READERS", "READERS_WITHOUT_FILES", "ReadResult", "Reader", "Source"]


def _synthetic(source: Source) -> ReadResult:
    from hf_crosstask.tasks import synthetic  # imported late: it builds on this package

    return synthetic.read(source)


READERS: dict[str, Reader] = {
    "bc2gm": bc2gm.read,
    "chemprot": chemprot.read,
    "csv": table.read_csv,
    "hub": hub.read,
    "iob": iob.read,
    "jsonl": jsonl.read,
    "pubmedqa": pubmedqa.read,
    "synthetic": _synthetic,
    "tsv": table.read_tsv,
}

#: Readers that generate their examples and need no `path`.
READERS_WITHOUT_FILES = frozenset({"synthetic"})
