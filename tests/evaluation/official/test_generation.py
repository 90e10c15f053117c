"""Multiple choice, ROUGE, BLEU and perplexity: the libraries' documented examples and small cases by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import SequenceMatcher

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.official import bleu, multiple_choice, perplexity, rouge


def test_multiple_choice(check_statistics: Callable[..., None]) -> None:
    gold, predicted = ["A", "B", "C", "D"], ["A", "C", None, "D"]
    values = multiple_choice.score(gold, predicted)
    assert values == {"accuracy": 0.5, "parse_failure_rate": 0.25}
    check_statistics(multiple_choice.question_counts(gold, predicted), multiple_choice.from_counts, values)
    with pytest.raises(InputError, match="one of each"):
        multiple_choice.score(gold, predicted[:2])


def test_rouge_example_of_the_library() -> None:
    # The example of rouge_score's README.
    values = rouge.score(["The quick brown fox jumps over the lazy dog"], ["The quick brown dog jumps on the log."])
    assert (values["rouge1_precision"], values["rouge1_recall"]) == (0.75, pytest.approx(2 / 3))
    assert values["rouge1_f1"] == pytest.approx(0.7058823529411765)
    assert (values["rougeL_precision"], values["rougeL_recall"]) == (0.625, pytest.approx(5 / 9))
    assert values["rougeL_f1"] == pytest.approx(0.5882352941176471)
    assert values["rouge2_f1"] == pytest.approx(2 * 2 / (7 + 8))


def test_rouge_is_a_mean_over_examples_and_empty_texts_score_zero(check_statistics: Callable[..., None]) -> None:
    references, predictions = ["a b c", "x", "", "y z"], ["A, b.", "", "x", "y-z"]
    values = rouge.score(references, predictions)
    assert values["rouge1_f1"] == pytest.approx((0.8 + 0 + 0 + 1) / 4)
    assert values["rouge2_recall"] == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    check_statistics(rouge.example_counts(references, predictions), rouge.from_counts, values)
    with pytest.raises(InputError):
        rouge.score(["a"], [])


words = st.lists(st.sampled_from("abc"), max_size=80)


@given(words, words)
def test_longest_common_subsequence(first: list[str], second: list[str]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, left in enumerate(first):
        for j, right in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if left == right else max(table[i, j + 1], table[i + 1, j])
    assert rouge.longest_common_subsequence(first, second) == table[-1, -1]
    matched = sum(block.size for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks())
    assert rouge.longest_common_subsequence(second, first) >= matched


def test_bleu_example_of_sacrebleu() -> None:
    # The example of sacreBLEU's README: BLEU 48.53.
    references = [
        ["The dog bit the man.", "The dog had bit the man."],
        ["It was not unexpected.", "No one was surprised."],
        ["The man bit him first.", "The man had bitten the dog."],
    ]
    predictions = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    values = bleu.score(references, predictions)
    assert values["bleu"] == pytest.approx(0.4853, abs=5e-5)
    assert values["brevity_penalty"] == pytest.approx(math.exp(1 - 18 / 17))


def test_bleu_tokens() -> None:
    assert bleu.tokens("He said: &quot;3.5%, or 1,000-2,000 (U.S.)&quot;.") == [
        "He", "said", ":", '"', "3.5", "%", ",", "or", "1,000", "-", "2,000", "(", "U", ".", "S", ".", ")", '"', "."
    ]  # fmt: skip
    assert bleu.tokens("non-small well-\nknown\ncell<skipped> don't") == ["non-small", "wellknown", "cell", "don't"]


def test_bleu_by_hand(check_statistics: Callable[..., None]) -> None:
    # Clipping: "the" counts once. Orders 2 to 4 have no match and are smoothed to 1/(2·3), 1/(4·2), 1/(8·1).
    values = bleu.score(["the cat sat down"], ["the the the the"])
    assert values["bleu"] == pytest.approx((1 / 4 * 1 / 6 * 1 / 8 * 1 / 8) ** 0.25)
    assert bleu.score(["a b c d"], ["a b c d"])["bleu"] == 1.0
    assert bleu.score(["a b c d"], [""])["bleu"] == bleu.score(["a b c"], ["a b c"])["bleu"] == 0.0
    assert bleu.score(["a b c d"], ["e f g h"])["bleu"] == 0.0
    # The most generous reference clips, not all of them together: 2 of the 4 "a" count, in bigrams 1 of 3.
    clipped = bleu.example_counts([["a a b", "a c"]], ["a a a a"]).total()
    assert clipped.tolist() == [4, 3, 2, 1, 0, 0, 4, 3, 2, 1]
    # The reference closest in length, the shorter of two: 6 against 5 and 7.
    assert bleu.score([["a b c d e", "a b c d e f g"]], ["a b c d e f"])["brevity_penalty"] == 1.0
    references, predictions = ["a b c d e f", "g h i j", "k l m n"], ["a b c d e", "g h i x", "k l m n o"]
    check_statistics(
        bleu.example_counts(references, predictions), bleu.from_counts, bleu.score(references, predictions)
    )
    with pytest.raises(InputError, match="no reference"):
        bleu.score([[]], ["a"])


@given(st.lists(st.text("abc .", min_size=1), min_size=2, max_size=5))
def test_order_of_examples(texts: list[str]) -> None:
    predictions = texts[1:] + texts[:1]
    for score in (bleu.score, rouge.score):
        assert score(texts[::-1], predictions[::-1]) == pytest.approx(score(texts, predictions))
        assert all(value >= 0 for value in score(texts, predictions).values())


def test_perplexity(check_statistics: Callable[..., None]) -> None:
    values = perplexity.score([math.log(4) * 3, math.log(2)], [3, 1])
    assert values["perplexity"] == pytest.approx((4**3 * 2) ** (1 / 4))
    table = perplexity.example_counts([math.log(4) * 3, math.log(2)], [3, 1])
    check_statistics(table, perplexity.from_counts, values)
    with pytest.raises(InputError, match="finite"):
        perplexity.score([math.inf], [1])
    with pytest.raises(InputError, match="1 losses but 2"):
        perplexity.score([1.0], [1, 2])
