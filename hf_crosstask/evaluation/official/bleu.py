"""Corpus BLEU (Papineni et al. 2002) with the defaults of sacreBLEU: 13a tokens, order 4, exponential smoothing.

Signature `case:mixed|eff:no|tok:13a|smooth:exp`; the value lies in [0, 1] (sacreBLEU prints it times 100). n-gram
matches are clipped by the most generous reference, the brevity penalty takes the reference closest in length (the
shorter at a tie). A corpus without any match, or too short for 4-grams, scores 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.counts import FloatArray, ratio
from hf_crosstask.evaluation.official.base import UnitCounts, Values, scalars

ORDER = 4
#: The rules of mteval-v13a: symbols apart, periods and commas apart unless between digits, dashes after digits apart.
_RULES = (
    (re.compile(r"([ !-&(-+/:-@\[-`{-~])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def tokens(text: str) -> list[str]:
    """The 13a tokens of a text."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        line = line.replace(entity, character)
    line = f" {line} "
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return line.split()


def _ngrams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + order]) for order in range(1, ORDER + 1) for start in range(len(words) - order + 1)
    )


def example_counts(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> UnitCounts:
    """Statistics `[examples, 10]`: length, length of the closest reference, matches of order 1..4, n-grams of 1..4.

    Args:
        references: for each example its references, at least one (a bare string is one reference).
        predictions: for each example the prediction.

    Raises:
        InputError: the numbers of examples differ, or an example has no reference.
    """
    if len(references) != len(predictions):
        raise InputError(f"{len(references)} references but {len(predictions)} predictions")
    rows = []
    for number, (texts, prediction) in enumerate(zip(references, predictions, strict=True)):
        if not texts and not isinstance(texts, str):
            raise InputError(f"example {number} has no reference")
        rights = [tokens(text) for text in ([texts] if isinstance(texts, str) else texts)]
        guess = tokens(prediction)
        best: Counter[tuple[str, ...]] = Counter()
        for right in rights:
            best |= _ngrams(right)
        found = _ngrams(guess)
        matches = found & best
        closest = min((len(right) for right in rights), key=lambda length: (abs(length - len(guess)), length))
        orders = range(1, ORDER + 1)
        rows.append(
            [
                len(guess),
                closest,
                *(sum(count for gram, count in matches.items() if len(gram) == order) for order in orders),
                *(max(len(guess) - order + 1, 0) for order in orders),
            ]
        )
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 2 + 2 * ORDER)
    return UnitCounts(tuple(str(index) for index in range(len(rows))), values)


def from_counts(sums: FloatArray) -> Values:
    """`bleu`, `brevity_penalty` and `length_ratio` of summed `[..., 10]` statistics."""
    length, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
    # Each order without a match halves the one match it is given, again and again.
    smoothing = 2.0 ** np.cumsum(matches == 0, axis=-1)
    precisions = ratio(np.where(matches > 0, matches, 1 / smoothing), totals)
    shortness = np.where(length < reference, 1 - ratio(reference, length), 0.0)
    penalty = np.where(length > 0, np.exp(shortness), np.where(reference > 0, 0.0, 1.0))
    usable = (totals > 0).all(axis=-1) & (matches > 0).any(axis=-1)
    logs = np.log(np.where(np.expand_dims(usable, -1), precisions, 1.0))
    return {
        "bleu": np.where(usable, penalty * np.exp(logs.mean(axis=-1)), 0.0),
        "brevity_penalty": penalty,
        "length_ratio": ratio(length, reference),
    }


def score(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU of one prediction per example."""
    return scalars(from_counts(example_counts(references, predictions).total()))
