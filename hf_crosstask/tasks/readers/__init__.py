"""Readers: one module per original format, each a function `read(source: Source) -> ReadResult`."""

from __future__ import annotations

from hf_crosstask.tasks.readers import (
    alias,
    anafora,
    bc2gm,
    biosses,
    brat,
    chemprot,
    cqa,
    ddi,
    gad,
    generation,
    hoc,
    hub,
    iob,
    jnlpba,
    jsonl,
    medmcqa,
    medqa,
    pubmed_rct,
    pubmedqa,
    pubtator,
    share2014,
    share2015,
    table,
)
from hf_crosstask.tasks.readers.base import Reader, ReadResult, Source

__all__ = ["READERS", "READERS_WITHOUT_FILES", "ReadResult", "Reader", "Source"]


def _synthetic(source: Source) -> ReadResult:
    from hf_crosstask.tasks import synthetic  # imported late: it builds on this package

    return synthetic.read(source)


READERS: dict[str, Reader] = {
    "anafora": anafora.read,
    "bc2gm": bc2gm.read,
    "biosses": biosses.read,
    "brat": brat.read,
    "chemprot": chemprot.read,
    "cqa": cqa.read,
    "csv": table.read_csv,
    "ddi": ddi.read,
    "gad": gad.read,
    "hoc": hoc.read,
    "hub": hub.read,
    "iob": iob.read,
    "jnlpba": jnlpba.read,
    "jsonl": jsonl.read,
    "medical_qa": generation.read_medical_qa,
    "medmcqa": medmcqa.read,
    "medqa": medqa.read,
    "medtext": generation.read_medtext,
    "pubmed_rct": pubmed_rct.read,
    "pubmedqa": pubmedqa.read,
    "pubtator": pubtator.read,
    "semeval2021t6": alias.read,
    "share2014": share2014.read,
    "share2015": share2015.read,
    "synthetic": _synthetic,
    "tsv": table.read_tsv,
}

#: Readers that generate their examples and need no `path`.
READERS_WITHOUT_FILES = frozenset({"synthetic"})
