from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.tasks.readers.sentences import merge_straddled, split_sentences


@pytest.mark.parametrize(
    "text",
    [
        "Felt rose.| It fell.",
        "Is it felt?| Yes!| (It was.)| [3H]Felt too.| 5-Felt also.| β-Felt last.",
        "In E. coli and H. pylori it rose.| With vitamin C. We agree.".replace("C. We", "C.| We"),
        "Rats got felt (5 mg/kg i.p.) twice.| Given p.o. for days.| Also s.c.| The rats slept.",
        "Seen (Smith et al. 2003), e.g. in mice, i.e. Mus, vs. controls.| Done.",
        "See Fig. 2 and J. Biol. Chem. 279, 13095.| Next.",
        "The U.S. Food office of Citrus grandis (L.) Osbeck agrees.",
        "It ended.| p53 fell.| siRNA rose.| beta-Felt fell.| alpha felt rose.",
        "after 15 min. of felt it rose in vivo. induces",
        "Cause of disease.|The end (P < 0.05).|RESULTS Felt rose.",
        "1. Felt rose.| 2. It fell in group 2.| 3. Done.",
        "It released NO.| This was new.",
        "The variant p.Arg108Cys, at 1.5 mM and pH 7.4, fell.",
    ],
)
def test_boundaries(text: str) -> None:
    plain = text.replace("|", "")
    assert [plain[start:end] for start, end in split_sentences(plain)] == [part.strip() for part in text.split("|")]


@given(st.text(alphabet="Aa.?! )(\"'1-\n\u2002βE", max_size=60))
def test_every_visible_character_is_in_exactly_one_sentence(text: str) -> None:
    spans = split_sentences(text)
    positions = [index for start, end in spans for index in range(start, end)]
    assert positions == sorted(set(positions))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= set(positions)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)


@given(st.data())
def test_mentions_stay_whole(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="Aa. ", min_size=2, max_size=60))
    starts = data.draw(st.lists(st.integers(0, len(text) - 2), max_size=4))
    mentions = [(start, data.draw(st.integers(start + 1, len(text)))) for start in starts]
    mentions = [(start, end) for start, end in mentions if text[start:end] == text[start:end].strip() != ""]
    sentences = split_sentences(text)
    merged = merge_straddled(sentences, mentions)
    assert all(sum(start <= s and e <= end for start, end in merged) == 1 for s, e in mentions)
    assert {span[0] for span in merged} <= {span[0] for span in sentences}
    assert {span[1] for span in merged} <= {span[1] for span in sentences}
    if not mentions:
        assert merged == sentences
