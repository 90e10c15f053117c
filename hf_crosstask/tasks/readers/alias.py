"""`semeval2021t6`: a task name that is in use for a medication-event task, though SemEval-2021 Task 6 is none."""

from __future__ import annotations

import warnings
from dataclasses import replace

from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.tasks.readers import brat
from hf_crosstask.tasks.readers.base import ReadResult, Source

_MEANT = "n2c2_2022_cmed"
_VARIANTS = (_MEANT, "n2c2_2018_ade")


def read(source: Source) -> ReadResult:
    """Read the corpus that the alias stands for, with a warning that says which and why.

    Option `variant`: `n2c2_2022_cmed` (default) or `n2c2_2018_ade`; the other options are those of `brat`.

    Raises:
        InputError: the variant is neither.
    """
    options = dict(source.options)
    variant = options.pop("variant", _MEANT)
    if variant not in _VARIANTS:
        raise InputError(
            f"task {source.card.name!r}: options.variant: {unknown_name('variant', str(variant), _VARIANTS)}"
        )
    other = _VARIANTS[1 - _VARIANTS.index(variant)]
    warnings.warn(
        f"task {source.card.name!r} is an alias of {variant!r}: SemEval-2021 Task 6 detects persuasion techniques in memes "
        f"and is not medical; the medication events meant are n2c2 2022 Track 1. Name {variant!r} in the recipe, or "
        f'choose {other!r} with {{"options": {{"variant": "{other}"}}}}.',
        UserWarning,
        stacklevel=2,
    )
    return brat.read(replace(source, options=options))
