"""A deterministic, rule-based sentence splitter for biomedical abstracts.

Corpora of relations inside a sentence (ChemProt) give no sentences, so the reader must find them, and every wrong
boundary loses gold relations. A general splitter trips on what these abstracts are full of: `E. coli`, `5 mg/kg i.p.`,
`J. Biol. Chem.`, sentences that begin with `p53`, `beta-Actin` or `[3H]`, numbered paragraphs, and structured abstracts
whose headings lost their blank (`0.05).CONCLUSIONS`). The rules below answer exactly those, were written on the
training part of ChemProt alone, and use no data at run time, so that a split never changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

Span = tuple[int, int]

# A full stop, question or exclamation mark, closing brackets and quotes, then white space ...
_SPACED = re.compile(r"[.?!][)\]\"'”’]*(?=\s+(\S+))")
# ... or no white space where a blank was lost: `disease.The`, `(P < 0.05).RESULTS`.
_GLUED = re.compile(r"(?:[a-z]{3}|[a-z\d]\))\.(?=[A-Z][A-Za-z]*\d*\W)")

# Abbreviations that never end a sentence: general, in citations, of taxonomy.
_NEVER_LAST = frozenset(
    {"vs", "e.g", "i.e", "cf", "ca", "approx", "viz", "al", "fig", "figs", "tab", "eq", "eqs", "no", "nos"}
    | {"expt", "expts", "dr", "prof", "mr", "mrs", "st", "ref", "refs", "lett", "proc", "natl", "acad", "sci", "soc"}
    | {"biol", "chem", "biochem", "pharmacol", "toxicol", "physiol", "clin", "exp", "res", "med", "mol"}
    | {"var", "subsp", "ssp", "f.sp"}
)
# Authors of botanical names: `Syzygium cumini Linn. in`.
_BOTANISTS = frozenset(
    {"linn", "merr", "huds", "willd", "forssk", "blume", "roxb", "thunb", "hook", "benth", "lam", "burm", "vent"}
)
_GREEK = frozenset(
    {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "omega"}
)


def split_sentences(text: str) -> list[Span]:
    """The sentences of `text` as [start, end) character spans, in order, without surrounding white space.

    Every character that is not white space lies in exactly one span.
    """
    candidates: list[tuple[int, str | None]] = [(match.end(), match.group(1)) for match in _SPACED.finditer(text)]
    candidates += [(match.end(), None) for match in _GLUED.finditer(text)]
    spans: list[Span] = []
    start = 0
    for end, following in sorted(candidates, key=lambda candidate: candidate[0]):
        if following is None or _ends_sentence(text[start:end], following):
            spans.append((start, end))
            start = end
    spans.append((start, len(text)))
    return [trimmed for span in spans if (trimmed := _trim(text, span))]


def merge_straddled(sentences: list[Span], mentions: Iterable[Span]) -> list[Span]:
    """Join neighbouring sentences wherever a mention crosses the boundary between them.

    Args:
        sentences: as `split_sentences` gives them.
        mentions: [start, end) character spans that must stay whole.
    """
    spans = list(mentions)
    crossed = {
        right for left, right in pairwise(sentences) if any(start < right[0] and end > left[1] for start, end in spans)
    }
    merged: list[Span] = []
    for span in sentences:
        if span in crossed:
            merged[-1] = (merged[-1][0], span[1])
        else:
            merged.append(span)
    return merged


def _trim(text: str, span: Span) -> Span | None:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None


def _ends_sentence(sentence: str, following: str) -> bool:
    """Whether `sentence`, which ends in a stop and closers, is complete before the word `following`."""
    token = sentence.split()[-1]
    word = token.rstrip(")]\"'”’").lstrip("([\"'“‘")
    if not word.endswith("."):
        return True  # a question or exclamation mark
    if token[0] in "([" and token[-1] in ")]":
        return False  # an abbreviation in brackets: `Citrus grandis (L.) Osbeck`
    stem = word[:-1]
    if stem.isdigit() and sentence.strip() == word:
        return False  # the number of a paragraph: `3. The effect`
    abbreviation = stem.lower() if stem[1:].islower() else stem  # `no. 3`, but the sentence may end in `NO.`
    if abbreviation in _NEVER_LAST:
        return False
    capital = following.lstrip("\"'“‘")[:1].isupper()
    if abbreviation in _BOTANISTS or stem == "L":
        return capital
    if re.fullmatch(r"(?:[A-Z]\.)+[A-Z]", stem):  # `U.S. Food and Drug`, `M.B.A. Higuchi`
        return False
    if re.fullmatch(r"(?:[a-z]\.)+[a-z]", stem):  # `10 mg/kg i.p. The rats`, but `by i.v. CCK-8`
        return bool(re.match(r"[A-Z][a-z]*[,:]?$", following))
    if re.fullmatch(r"[A-Z]", stem):  # `vitamin C. We`, but `E. coli` and `J. Biol.`
        return capital and not following.endswith(".")
    if following.lstrip("([\"'“‘{<+-−±")[:1].islower():
        return _begins_in_lower_case(following) and bool(re.search(r"[a-z\d)\]]{2}$|\)$", stem))
    return True


def _begins_in_lower_case(word: str) -> bool:
    """Whether a sentence may begin with this word of lower-case first letter: `p53`, `siRNA`, `c-fos`, `beta`."""
    return bool(re.search(r"[A-Z\d/-]", word)) or word.strip("(),") in _GREEK
