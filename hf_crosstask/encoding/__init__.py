"""From examples to model features: tokenize, align words, place markers, cut or window long inputs, pad batches.

Public names load on first use, so that importing `hf_crosstask.encoding.tags` brings in neither torch nor datasets.
`words(text, segmentation)` is imported from its module, `hf_crosstask.encoding.words`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_crosstask.encoding.collator import MultiTaskCollator as MultiTaskCollator
    from hf_crosstask.encoding.encode import EncodedTask as EncodedTask
    from hf_crosstask.encoding.encode import encode_task as encode_task
    from hf_crosstask.encoding.report import EncodingReport as EncodingReport
    from hf_crosstask.encoding.tags import decode_tags as decode_tags
    from hf_crosstask.encoding.tags import ner_tags as ner_tags

_PUBLIC = {
    "EncodedTask": "hf_crosstask.encoding.encode",
    "EncodingReport": "hf_crosstask.encoding.report",
    "MultiTaskCollator": "hf_crosstask.encoding.collator",
    "decode_tags": "hf_crosstask.encoding.tags",
    "encode_task": "hf_crosstask.encoding.encode",
    "ner_tags": "hf_crosstask.encoding.tags",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
