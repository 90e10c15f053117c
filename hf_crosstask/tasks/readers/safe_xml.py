"""XML without its dangers: a small tree built by expat, which never expands an entity of the document or opens a file.

A document type declaration is allowed (the community question answering files carry one) as long as it declares no
entity and points to nothing outside. Declared entities are how "billion laughs" grows and how external entities reach
files and the network; both are refused before anything is expanded. Attribute defaults of a declaration are not
applied, and depth is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from hf_crosstask.errors import DataFormatError

_DEEPEST = 200
_REMEDY = "Do not trust this file: corpora have no such declaration."


@dataclass
class Node:
    """An element: its tag, attributes, children, character data directly inside it, and line."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def find(self, tag: str) -> list[Node]:
        """The children with this tag."""
        return [child for child in self.children if child.tag == tag]

    def walk(self, tag: str) -> Iterator[Node]:
        """All elements below with this tag, in document order."""
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.walk(tag)


def parse_xml(data: bytes, where: str | Path) -> Node:
    """The root element of an XML document.

    Args:
        data: its bytes; the encoding is the declared one, UTF-8 without a declaration.
        where: named in errors.

    Raises:
        DataFormatError: it is not well-formed, declares or uses an entity of its own, or refers to anything outside.
    """
    builder = _Builder(where)
    parser = builder.parser
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataFormatError(where, f"is not well-formed XML: {error}.", line=error.lineno) from None
    except (LookupError, ValueError) as error:  # an unknown or multi-byte encoding in the declaration
        raise DataFormatError(where, f"declares an encoding that cannot be read: {error}.") from None
    return builder.root()


class _Builder:
    def __init__(self, where: str | Path):
        self.where = where
        self.stack: list[Node] = []
        self.top: Node | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.specified_attributes = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.EntityDeclHandler = self.entity
        self.parser.ExternalEntityRefHandler = self.external
        self.parser.SkippedEntityHandler = self.skipped

    def root(self) -> Node:
        if self.top is None:
            raise DataFormatError(self.where, "holds no XML element.")
        return self.top

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        node = Node(tag, attributes, self.parser.CurrentLineNumber)
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.top = node
        self.stack.append(node)
        if len(self.stack) > _DEEPEST:
            self.refuse(f"is nested more than {_DEEPEST} elements deep")

    def end(self, _tag: str) -> None:
        self.stack.pop()

    def characters(self, text: str) -> None:
        self.stack[-1].text += text

    def doctype(self, _name: str, system: str | None, public: str | None, _internal: bool) -> None:
        if system is not None or public is not None:
            self.refuse(f"refers to an external document type {system or public!r}")

    def entity(self, name: str, *_: object) -> None:
        self.refuse(f"declares the entity {name!r}")

    def external(self, _context: str, _base: str | None, system: str | None, public: str | None) -> NoReturn:
        self.refuse(f"refers to the external entity {system or public!r}")

    def skipped(self, name: str, _parameter: bool) -> None:
        self.refuse(f"uses the entity {name!r}")

    def refuse(self, problem: str) -> NoReturn:
        raise DataFormatError(self.where, f"{problem}.", line=self.parser.CurrentLineNumber, remedy=_REMEDY)
