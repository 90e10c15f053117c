from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.safe_xml import parse_xml


def test_a_tree() -> None:
    root = parse_xml(b'<a x="1 &amp; 2">\n<b>t&lt;<c/>u</b><b y="&#228;"/>\n</a>', "f")
    assert (root.tag, root.attributes, root.line) == ("a", {"x": "1 & 2"}, 1)
    first, second = root.find("b")
    assert (first.text, first.line, second.attributes) == ("t<u", 2, {"y": "ä"})
    assert [node.tag for node in root.walk("c")] == ["c"]


def test_a_declaration_without_entities_is_allowed() -> None:
    data = b'<!DOCTYPE a [<!ELEMENT a (b*)><!ATTLIST a x CDATA "default">]><a/>'
    assert parse_xml(data, "f").attributes == {}, "defaults are not applied"


def test_the_declared_encoding_counts() -> None:
    assert parse_xml('<?xml version="1.0" encoding="iso-8859-1"?><a>é</a>'.encode("latin-1"), "f").text == "é"
    assert parse_xml("<a>é</a>".encode("utf-16"), "f").text == "é"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><a/>', "declares the entity 'x'"),
        ('<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><a>&z;</a>', "declares the entity 'x'"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "declares the entity 'x'"),
        ('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://h/">%x;]><a/>', "declares the entity 'x'"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "f" NDATA n>]><a/>', "declares the entity 'x'"),
        ('<!DOCTYPE a SYSTEM "http://h/d.dtd"><a/>', "external document type 'http://h/d.dtd'"),
        ('<!DOCTYPE a SYSTEM "d.dtd"><a>&x;</a>', "external document type"),
        ("<a>&x;</a>", "not well-formed"),
        ("<a>", "not well-formed"),
        ("<a/><b/>", "not well-formed"),
        ("", "not well-formed"),
        ("<a>\x01</a>", "not well-formed"),
        ('<?xml version="1.0" encoding="felt"?><a/>', "encoding"),
        ('<?xml version="1.0" encoding="big5"?><a/>', "encoding"),
        ("<a>" * 300 + "</a>" * 300, "nested more than 200"),
    ],
)
def test_refused(data: str, problem: str) -> None:
    with pytest.raises(DataFormatError, match=problem):
        parse_xml(data.encode(), "f")


PARTS = ['<a x="', '">', "</a>", "<!DOCTYPE a [", "]>", '<!ENTITY b "', "&b;", "é", "\0", "]]>", "<?xml "]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PARTS)))
def test_anything(parts: list[str]) -> None:
    try:
        parse_xml("".join(parts).encode(), "f")
    except DataFormatError as error:
        message = str(error)
    else:
        message = "f:"
    assert message.startswith("f:"), "names the file"
