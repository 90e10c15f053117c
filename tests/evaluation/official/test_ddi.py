"""DDI: micro, macro and detection, by hand and against scikit-learn."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.official import ddi
from hf_crosstask.evaluation.official.ddi import TYPES, Pair


def pairs(*types: str | None, sentence: str = "DDI-X.d1.s0") -> list[Pair]:
    return [Pair(sentence, f"{sentence}.e{index}", f"{sentence}.f{index}", kind) for index, kind in enumerate(types)]


def test_by_hand() -> None:
    gold = pairs("mechanism", "mechanism", "effect", None, "int", None)
    predicted = pairs("mechanism", "effect", "effect", "advise", None, None)
    values = ddi.score(gold, predicted)
    # TP 2; FP effect, advise; FN mechanism, int.
    assert (values["micro_precision"], values["micro_recall"], values["micro_f1"]) == (0.5, 0.5, 0.5)
    mechanism, effect = 2 * 1 / (2 + 1), 2 * 1 / (2 + 1)
    assert values["macro_f1"] == pytest.approx((mechanism + effect) / 4)
    precision, recall = (1 + 1 / 2) / 4, (1 / 2 + 1) / 4
    assert values["official_macro_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    # Detection: mechanism as effect is detected; advise is a false alarm, int is missed.
    assert (values["detection_precision"], values["detection_recall"]) == (3 / 4, 3 / 4)
    assert values["f1_int"] == 0.0


def test_pairs_are_unordered_and_may_be_missing() -> None:
    gold = pairs("effect", "int")
    swapped = [Pair(gold[0].sentence, gold[0].second, gold[0].first, "effect")]
    values = ddi.score(gold, swapped)
    assert (values["micro_precision"], values["micro_recall"]) == (1.0, 0.5)


def test_repeated_pairs_and_unknown_types() -> None:
    with pytest.raises(InputError, match="twice"):
        ddi.score(pairs("effect"), pairs("effect") * 2)
    with pytest.raises(InputError, match="'false' is no type"):
        pairs("false")


kinds = st.lists(st.sampled_from([*TYPES, None]), min_size=1, max_size=20)


@given(kinds, st.randoms(use_true_random=False))
def test_equals_scikit_learn_on_the_four_types(types: list[str | None], generator: random.Random) -> None:
    guesses = [generator.choice([*TYPES, None, kind, kind]) for kind in types]
    values = ddi.score(pairs(*types), pairs(*guesses)[::-1])
    truth, guess = ([kind or "false" for kind in side] for side in (types, guesses))
    for average in ("micro", "macro"):
        expected = f1_score(truth, guess, labels=list(TYPES), average=average, zero_division=0)
        assert values[f"{average}_f1"] == pytest.approx(expected)
    expected = f1_score([kind is not None for kind in types], [kind is not None for kind in guesses], zero_division=0)
    assert values["detection_f1"] == pytest.approx(expected)


def test_statistics(check_statistics: Callable[..., None]) -> None:
    gold = pairs("effect", None, "int") + pairs("mechanism", "advise", sentence="DDI-X.d2.s0")
    predicted = pairs("effect", "int", None) + pairs("advise", "advise", sentence="DDI-X.d2.s0")
    table = ddi.document_counts(gold, predicted)
    assert table.units == ("DDI-X.d1", "DDI-X.d2")
    check_statistics(table, ddi.from_counts, ddi.score(gold, predicted))


def test_round_trip() -> None:
    submission = pairs("mechanism", None)
    assert ddi.format_lines(submission).splitlines()[1] == "DDI-X.d1.s0|DDI-X.d1.s0.e1|DDI-X.d1.s0.f1|0|null"
    assert ddi.parse(ddi.format_lines(submission)) == submission


@pytest.mark.parametrize("line", ["s|a|b|1", "s|a|b|2|effect", "s|a|b|1|null", "s|a|b|0|effect", "s|a|b|1|causes"])
def test_broken_lines(line: str) -> None:
    with pytest.raises(DataFormatError, match=r"run\.txt:1"):
        ddi.parse(line, "run.txt")


def test_the_real_test_set(shared_data: Path) -> None:
    gold = []
    with zipfile.ZipFile(shared_data / "ddi" / "DDICorpus-2013.zip") as archive:
        for name in archive.namelist():
            if "Test for DDI Extraction task" in name and name.endswith(".xml") and "__MACOSX" not in name:
                for element in ElementTree.fromstring(archive.read(name)).iter("sentence"):
                    for pair in element.iter("pair"):
                        kind = pair.attrib["type"] if pair.attrib["ddi"] == "true" else None
                        gold.append(Pair(element.attrib["id"], pair.attrib["e1"], pair.attrib["e2"], kind))
    assert len(gold) == 5716
    table = ddi.document_counts(gold, gold)
    assert table.total().reshape(5, 3)[:, 0].tolist() == [302, 360, 221, 96, 979]
    assert {value for name, value in ddi.score(gold, gold).items()} == {1.0}
    assert ddi.parse(ddi.format_lines(gold)) == gold
    # The trivial predictor: every pair is an effect.
    effect = ddi.score(gold, [Pair(p.sentence, p.first, p.second, "effect") for p in gold])
    assert effect["micro_precision"] == pytest.approx(360 / 5716)
    assert effect["detection_recall"] == 1.0
