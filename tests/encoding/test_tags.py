from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOB2, Tokens

from hf_crosstask.encoding.tags import decode_tags, ner_tags
from hf_crosstask.errors import InputError

TAGS = [f"{prefix}-{kind}" for kind in ("X", "Y", "cell_line", "GENE-N") for prefix in "BI"]


def test_tags_stand_in_label_order():
    assert ner_tags(["Gene", "Drug"]) == ["O", "B-Gene", "I-Gene", "B-Drug", "I-Drug"]


@pytest.mark.parametrize("labels", [[], ["X", "X"], [""], ["X-"], ["-"]])
def test_label_sets_that_tags_cannot_express_are_refused(labels: list[str]):
    with pytest.raises(InputError):
        ner_tags(labels)


def test_only_what_begins_is_an_entity():
    tags = ["I-X", "B-X", "I-X", "I-Y", "B-Y", "B-Y", "O", "I-Y", "B-X"]
    assert decode_tags(tags) == [("X", 1, 3), ("Y", 4, 5), ("Y", 5, 6), ("X", 8, 9)]


@given(st.lists(st.sampled_from(["O", "O", *TAGS]), max_size=30))
def test_reads_as_seqeval_does_in_strict_mode(tags: list[str]):
    theirs = [(entity.tag, entity.start, entity.end) for entity in Tokens(tags, IOB2).entities]
    assert decode_tags(tags) == theirs


@pytest.mark.parametrize("tag", ["E-X", "S-X", "", "x"])
def test_other_schemes_are_refused(tag: str):
    with pytest.raises(ValueError, match="not an IOB2 tag"):
        decode_tags(["O", tag])
