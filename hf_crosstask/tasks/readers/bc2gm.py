"""BC2GM (BioCreative II gene mention): the MTL-2016 IOB files and the original distribution.

Option `variant`:

**`iob`** (default): `train.tsv`, `devel.tsv`, `test.tsv` of BC2GM-IOB, the split that BLURB and most papers report on.
The files name no documents, so each sentence is its own `split_group`, and there are no alternatives.

**`original`**: `train/train.in`, `test/test.in` with `GENE.eval` and `ALTGENE.eval` beside them.

- `.in` lines are `ID sentence`; `.eval` lines are `ID|start end|mention`, offsets counting the characters that are no
  white space, from 0, end inclusive. Here they become ordinary [start, end) character offsets of the sentence.
- The official scorer takes a predicted mention for right if it equals a GENE mention or an ALTGENE mention that
  overlaps one. Each GENE entity therefore carries its alternatives as attributes, `{"name": "alternative",
  "value": "start:end"}` (offsets as above). An ALTGENE mention that overlaps no GENE can make nothing right, but the
  scorer does not count it as wrong either; it is an attribute `{"name": "neutral", "value": "start:end"}` of the first
  entity of its sentence (in a sentence without any GENE it has no carrier, and is counted in `dropped`).
- `split_group` is the PMID: train ids carry it (`P00001606T0076`), test ids map through `test/test.idmap`.
- The official training part has no validation part. Option `validation`: `devel_split` (default) takes the 2,500
  sentences of `devel-split/devel/devel.in` (spyysalo/bc2gm-corpus; it shares no PMID with the rest); `documents` holds
  out every sixth document by a hash of its PMID, where that file is not at hand; `none` keeps all 15,000 for training.
- Four training lines of the distribution have offsets that miss their own mention. They are known by name, corrected,
  and counted in `dropped`; any other disagreement is an error.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers import iob
from hf_crosstask.tasks.readers.base import (
    ReadResult,
    Source,
    TextOptions,
    parse_options,
    pmid_group,
    read_lines,
    source_folder,
)
from hf_crosstask.tasks.schema import make_entity, make_example

#: Lines of train/*.eval whose offsets miss their mention, with the offsets that the mention has.
_KNOWN_ERRORS = {
    "P02196565T0000|162 187|translation upstream factor": (163, 187),
    "P01655713A0294|58 58|S-deficient": (58, 68),
    "P02839716A1907|32 34|E2": (32, 33),
    "P09139910A0350|197 210|2.6 kbp (pOST2)": (197, 209),
}
_EVAL_LINE = re.compile(r"(?P<id>[^\s|]+)\|(?P<start>[0-9]{1,7}) (?P<end>[0-9]{1,7})\|(?P<mention>.*)")
_SOURCE_ID = re.compile(r"P(?P<pmid>[0-9]{8})[A-Z][0-9]{4}[a-z]?")


class Bc2gmOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    variant: Literal["iob", "original"] = "iob"
    validation: Literal["devel_split", "documents", "none"] = "devel_split"


class _Mention(NamedTuple):
    """Character offsets [start, end) in the sentence."""

    start: int
    end: int

    def overlaps(self, other: _Mention) -> bool:
        return self.start < other.end and other.start < self.end


_Mentions = dict[str, list[_Mention]]  # sentence id -> mentions in file order


def read(source: Source) -> ReadResult:
    """Read BC2GM in the variant that the options name.

    Raises:
        DataFormatError: a file is missing or breaks its format, a mention is not at its offsets.
    """
    options = parse_options(source, Bc2gmOptions)
    if options.variant == "iob":
        return iob.read(replace(source, options={"encoding": options.encoding}))
    folder = source_folder(source)
    dropped: dict[str, Counter[str]] = {"train": Counter(), "test": Counter()}
    train = _read_part(source, folder, "train", _train_groups, options, dropped["train"])
    test = _read_part(source, folder, "test", _test_groups, options, dropped["test"])
    held_out = _held_out(folder, train, options)
    splits = {"train": [example for example in train if example["id"] not in held_out]}
    if held_out:
        splits["validation"] = [example for example in train if example["id"] in held_out]
    splits["test"] = test
    return ReadResult(splits, dropped={split: dict(counts) for split, counts in dropped.items() if counts})


def _read_part(
    source: Source,
    folder: Path,
    part: str,
    groups: Callable[[Path, Sequence[str], str], Mapping[str, str]],
    options: Bc2gmOptions,
    dropped: Counter[str],
) -> list[dict[str, Any]]:
    """The examples of `train` or `test`, in the order of its `.in` file."""
    path = folder / part / f"{part}.in"
    sentences = _read_sentences(path, options.encoding)
    group_of = groups(path, list(sentences), options.encoding)
    genes = _read_mentions(folder / part / "GENE.eval", sentences, options.encoding, dropped)
    alternatives = _read_mentions(folder / part / "ALTGENE.eval", sentences, options.encoding, dropped)
    examples = []
    for name, text in sentences.items():
        entities = _entities(text, genes.get(name, []), alternatives.get(name, []), source.card.labels[0])
        if not entities:
            dropped["alternatives in a sentence without a gene"] += len(alternatives.get(name, []))
        examples.append(make_example(name, source.card.name, text, split_group=group_of[name], entities=entities))
    dropped += Counter()  # removes zero counts
    return examples


def _read_sentences(path: Path, encoding: str) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for number, line in read_lines(path, encoding):
        name, blank, text = line.partition(" ")
        if not (name and blank and text.strip()):
            raise DataFormatError(path, f"expected `ID sentence`, found {line[:60]!r}.", line=number)
        if name in sentences:
            raise DataFormatError(path, f"the sentence id {name} occurs twice.", line=number)
        sentences[name] = text
    if not sentences:
        raise DataFormatError(path, "holds no sentence.")
    return sentences


def _read_mentions(path: Path, sentences: Mapping[str, str], encoding: str, dropped: Counter[str]) -> _Mentions:
    mentions: _Mentions = defaultdict(list)
    visible: dict[str, list[int]] = {}  # sentence id -> text position of each character that is no white space
    for number, line in read_lines(path, encoding):
        match = _EVAL_LINE.fullmatch(line)
        if match is None:
            raise DataFormatError(path, f"expected `ID|start end|mention`, found {line[:60]!r}.", line=number)
        name, first, last = match["id"], int(match["start"]), int(match["end"])
        if name not in sentences:
            raise DataFormatError(path, f"no sentence has the id {name}.", line=number)
        text = sentences[name]
        if name not in visible:
            visible[name] = [position for position, character in enumerate(text) if not character.isspace()]
        if line in _KNOWN_ERRORS:
            first, last = _KNOWN_ERRORS[line]
            dropped["known offset errors of the distribution, corrected"] += 1
        if not first <= last < len(visible[name]):
            problem = f"offsets {first} {last} lie outside the {len(visible[name])} visible characters of {name}."
            raise DataFormatError(path, problem, line=number)
        mention = _Mention(visible[name][first], visible[name][last] + 1)
        found = text[mention.start : mention.end]
        if "".join(found.split()) != "".join(match["mention"].split()):
            problem = f"the sentence has {found!r} at these offsets, the line says {match['mention']!r}."
            raise DataFormatError(path, problem, line=number)
        if mention in mentions[name]:
            dropped["mentions listed twice"] += 1
        else:
            mentions[name].append(mention)
    return mentions


def _entities(
    text: str, genes: Sequence[_Mention], alternatives: Sequence[_Mention], label: str
) -> list[dict[str, Any]]:
    neutral = [other for other in alternatives if not any(other.overlaps(gene) for gene in genes)]
    entities = []
    for number, gene in enumerate(sorted(genes), start=1):
        own = [other for other in alternatives if other.overlaps(gene) and other != gene]
        marks = [("alternative", other) for other in own]
        if number == 1:
            marks += [("neutral", other) for other in neutral]
        attributes = [{"name": name, "value": f"{other.start}:{other.end}"} for name, other in marks]
        spelled = text[gene.start : gene.end]
        entities.append(make_entity(f"T{number}", label, [gene], [spelled], attributes=attributes))
    return entities


def _train_groups(path: Path, names: Sequence[str], encoding: str) -> dict[str, str]:
    groups = {}
    for name in names:
        match = _SOURCE_ID.fullmatch(name)
        if match is None:
            raise DataFormatError(path, f"the sentence id {name} does not begin with P and the PMID in eight digits.")
        groups[name] = pmid_group(match["pmid"])
    return groups


def _test_groups(path: Path, names: Sequence[str], encoding: str) -> dict[str, str]:
    idmap = path.with_name("test.idmap")
    groups = {}
    for number, line in read_lines(idmap, encoding):
        origin, _, name = line.partition(" ")
        match = _SOURCE_ID.fullmatch(origin)
        if match is None or not name:
            problem = f"expected `P<PMID>… <test id>`, found {line[:60]!r}."
            raise DataFormatError(idmap, problem, line=number)
        groups[name] = pmid_group(match["pmid"])
    unmapped = [name for name in names if name not in groups]
    if unmapped:
        raise DataFormatError(idmap, f"maps no PMID to {len(unmapped)} sentences of test.in, first {unmapped[0]}.")
    return groups


def _held_out(folder: Path, train: Sequence[Mapping[str, Any]], options: Bc2gmOptions) -> set[str]:
    """The ids of the validation sentences."""
    if options.validation == "none":
        return set()
    if options.validation == "documents":
        return {
            example["id"] for example in train if hashlib.sha256(example["split_group"].encode()).digest()[0] % 6 == 0
        }
    looked_for = [parent / "devel-split" / "devel" / "devel.in" for parent in (folder, folder.parent)]
    path = next((path for path in looked_for if path.is_file()), None)
    if path is None:
        raise DataFormatError(
            folder,
            f"no list of validation sentences. Looked for {' and '.join(map(str, looked_for))}.",
            remedy="Copy devel-split from spyysalo/bc2gm-corpus, or set options.validation to 'documents' or 'none'.",
        )
    held_out = set(_read_sentences(path, options.encoding))
    strangers = held_out - {example["id"] for example in train}
    if strangers:
        raise DataFormatError(path, f"{len(strangers)} sentences are not in train.in, first {min(strangers)}.")
    return held_out
