"""Brat stand-off annotations (`.ann`), as the n2c2 scorers read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hf_crosstask.errors import DataFormatError
from hf_crosstask.evaluation.official.base import data_lines, offset


@dataclass(frozen=True)
class Span:
    """A `T` line: [start, end) of each fragment, in the order of the line.

    The n2c2 scorers know only `start` and `end`: the outer bounds of the fragments.
    """

    id: str
    type: str
    fragments: tuple[tuple[int, int], ...]
    text: str

    @property
    def start(self) -> int:
        """Start of the first fragment."""
        return self.fragments[0][0]

    @property
    def end(self) -> int:
        """End of the last fragment."""
        return self.fragments[-1][1]


@dataclass(frozen=True)
class Relation:
    """An `R` line; `head` and `tail` are the ids of Arg1 and Arg2."""

    id: str
    type: str
    head: str
    tail: str


@dataclass(frozen=True)
class Event:
    """An `E` line without arguments; `trigger` is the id of its span."""

    id: str
    type: str
    trigger: str


@dataclass(frozen=True)
class Attribute:
    """An `A` line; `target` is the id of an event or span."""

    id: str
    type: str
    target: str
    value: str


@dataclass(frozen=True)
class BratDocument:
    """The annotations of one file, each kind in file order."""

    spans: tuple[Span, ...] = ()
    relations: tuple[Relation, ...] = ()
    events: tuple[Event, ...] = ()
    attributes: tuple[Attribute, ...] = ()


def _span(name: str, rest: str) -> Span:
    head, _, text = rest.partition("\t")
    kind, _, offsets = head.partition(" ")
    fragments = tuple(tuple(offset(value) for value in part.split()) for part in offsets.split(";"))
    if not kind or any(len(fragment) != 2 or fragment[0] > fragment[1] for fragment in fragments):
        raise ValueError("expected `type start end[;start end…]`")
    return Span(name, kind, tuple((start, end) for start, end in fragments), text)


def _relation(name: str, rest: str) -> Relation:
    kind, first, second = rest.split()
    if not (first.startswith("Arg1:") and second.startswith("Arg2:")):
        raise ValueError("expected `type Arg1:id Arg2:id`")
    return Relation(name, kind, first.removeprefix("Arg1:"), second.removeprefix("Arg2:"))


def _event(name: str, rest: str) -> Event:
    kind, colon, trigger = rest.strip().partition(":")
    if not (kind and colon) or " " in trigger:
        raise ValueError("expected `type:span`")
    return Event(name, kind, trigger)


def _attribute(name: str, rest: str) -> Attribute:
    kind, target, value = rest.split()
    return Attribute(name, kind, target, value)


_Item = Span | Relation | Event | Attribute
_READERS: dict[str, Callable[[str, str], _Item]] = {"T": _span, "R": _relation, "E": _event, "A": _attribute}
_BLANKS = str.maketrans("\t\r\n", "   ")
#: Notes, equivalences, normalizations, modifications: brat writes them, no n2c2 scorer reads them.
_UNSCORED = ("#", "*", "N", "M")


def parse(text: str, source: str = "annotations") -> BratDocument:
    """The annotations of a `.ann` file.

    Raises:
        DataFormatError: a line of no known kind or of another form, a repeated id, or a reference to an unknown id.
    """
    found: dict[str, _Item] = {}
    for number, line in data_lines(text):
        name, tab, rest = line.strip().partition("\t")
        if name.startswith(_UNSCORED):
            continue
        reader = _READERS.get(name[:1])
        if reader is None or not tab:
            raise DataFormatError(source, f"expected T, R, E or A, an id and a tab; found {line!r}", line=number)
        if name in found:
            raise DataFormatError(source, f"the id {name} is used twice", line=number)
        try:
            found[name] = reader(name, rest)
        except ValueError as error:
            raise DataFormatError(source, f"{name}: {error} in {line!r}", line=number) from error
    for item in found.values():
        for reference in _references(item):
            if reference not in found:
                raise DataFormatError(source, f"{item.id} refers to {reference!r}, which is not in the file")
    return BratDocument(
        tuple(item for item in found.values() if isinstance(item, Span)),
        tuple(item for item in found.values() if isinstance(item, Relation)),
        tuple(item for item in found.values() if isinstance(item, Event)),
        tuple(item for item in found.values() if isinstance(item, Attribute)),
    )


def _references(item: _Item) -> Sequence[str]:
    if isinstance(item, Relation):
        return (item.head, item.tail)
    if isinstance(item, Event):
        return (item.trigger,)
    return (item.target,) if isinstance(item, Attribute) else ()


def format_ann(document: BratDocument) -> str:
    """The file `parse` reads. Line breaks and tabs inside a mention become blanks, as in the official files."""
    lines = []
    for span in document.spans:
        offsets = ";".join(f"{start} {end}" for start, end in span.fragments)
        lines.append(f"{span.id}\t{span.type} {offsets}\t{span.text.translate(_BLANKS)}")
    lines += [f"{r.id}\t{r.type} Arg1:{r.head} Arg2:{r.tail}" for r in document.relations]
    lines += [f"{e.id}\t{e.type}:{e.trigger} " for e in document.events]
    lines += [f"{a.id}\t{a.type} {a.target} {a.value}" for a in document.attributes]
    return "".join(line + "\n" for line in lines)


def spans_match(first: Span, second: Span, *, strict: bool) -> bool:
    """Same outer bounds (strict), or bounds that share a character (lenient); ends exclusive."""
    if strict:
        return (first.start, first.end) == (second.start, second.end)
    return first.start < second.end and second.start < first.end
