"""From logits to values through the real encoding: label sets, scores, candidates, choices."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hf_crosstask.encoding.encode import encode_task
from hf_crosstask.errors import CrosstaskError
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scorer import Scorer, build_scorer
from hf_crosstask.evaluation.scoring import scoring_for
from hf_crosstask.evaluation.set_decoding import sigmoid
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.registry import DEFAULT_METRICS, resolve_card
from hf_crosstask.tasks.schema import TaskType, make_example, to_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MakeCard = Callable[..., TaskCard]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """A character-level WordPiece tokenizer: every word has as many tokens as letters."""
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789-.,()@#$"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, model_max_length=512)


@pytest.fixture(autouse=True)
def _no_cache() -> Any:
    import datasets

    datasets.disable_caching()
    yield
    datasets.enable_caching()


def scorer_of(card: TaskCard, rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Scorer:
    examples = to_dataset(rows)
    return build_scorer(
        card, examples, encode_task(examples, card, tokenizer, max_length=32, causal=False).dataset, {}
    )


def logits(*rows: list[float]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.float32) for row in rows]


@pytest.fixture
def sets(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> Scorer:
    card = make_card("multilabel", ("a", "b"), "document_micro_f1")
    rows = [
        make_example(str(i), "sets", "why", split_group=f"d{i // 2}", labels=labels)
        for i, labels in enumerate((["a"], ["b"], [], ["a"]))
    ]
    return scorer_of(card, rows, tokenizer)


def test_label_sets_are_what_reaches_the_threshold(sets: Scorer) -> None:
    outputs = logits([2.0, -2.0], [-0.1, 0.0], [-3.0, -3.0], [-0.4, -0.4])
    predictions = sets.decode(outputs)
    assert sets.threshold == 0.5
    assert predictions.predicted == (("a",), ("b",), (), ())
    assert predictions.confidence[1] == (0.5,)
    low = sets.with_threshold(0.4).decode(outputs)
    assert low.predicted == (("a",), ("a", "b"), (), ("a", "b"))
    assert low.confidence[3] == pytest.approx((1 / (1 + np.exp(0.4)),) * 2)
    assert sets.threshold == 0.5  # the scorer itself is unchanged
    assert sets.decode(outputs).predicted == predictions.predicted


def test_the_best_threshold_is_of_the_primary_metric(sets: Scorer) -> None:
    outputs = logits([-0.2, -2.0], [-2.0, -0.2], [-3.0, -3.0], [-0.3, -2.0])
    chosen = sets.with_best_threshold(outputs)
    assert chosen.threshold is not None
    assert sigmoid(np.array(-2.0)) < chosen.threshold <= sigmoid(np.array(-0.3))
    assert chosen.score(chosen.decode(outputs))["document_micro_f1"] == 1.0
    assert sets.score(sets.decode(outputs))["document_micro_f1"] == 0.0


def test_scores_return_to_the_scale_of_the_data(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> None:
    card = make_card("similarity", (), "pearson", score_range=(1.0, 5.0))
    rows = [
        make_example(str(i), "pairs", "why", text_pair="how", split_group=str(i), score=score)
        for i, score in enumerate((1.0, 3.0, 5.0))
    ]
    scorer = scorer_of(card, rows, tokenizer)
    predictions = scorer.decode(logits([0.0], [0.25], [1.1]))
    assert predictions.predicted == pytest.approx((1.0, 2.0, 5.4))
    assert predictions.gold == ((1.0,), (3.0,), (5.0,))
    assert scorer.score(predictions)["spearman"] == pytest.approx(1.0)
    assert scorer.threshold is None
    assert scorer.with_best_threshold(logits([0.0], [0.25], [1.1])) is scorer
    with pytest.raises(ValueError, match="decides without a threshold"):
        scorer.with_threshold(0.3)
    with pytest.raises(ValueError, match=r"shape \[1\] expected"):
        scorer.decode(logits([0.0, 1.0], [0.0, 1.0], [0.0, 1.0]))


def test_candidates_go_back_to_their_examples(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> None:
    rng = random.Random(0)
    rows = [
        make_example(
            f"{query}.{rank}",
            "forum",
            "why",
            text_pair=" ".join(["how"] * rng.choice((1, 2, 8))),
            split_group=f"q{query}",
            group_id=f"q{query}",
            rank=rank,
            score=float(rank in (2, 4)),
            labels=["true" if rank in (2, 4) else "false"],
        )
        for rank in range(1, 9)
        for query in range(6)
    ]
    examples = to_dataset(rows)
    card = make_card("ranking", ("false", "true"), "map")
    encoded = encode_task(examples, card, tokenizer, max_length=24, causal=False).dataset
    scorer = build_scorer(card, examples, encoded, {})
    wanted = np.array([1.0 if row["rank"] in (2, 4) else -float(row["rank"]) for row in rows], dtype=np.float32)
    width = max(map(len, encoded["candidate_index"]))
    outputs = np.full((len(encoded), width), -100, dtype=np.float32)  # as the trainer pads them
    for number, candidates in enumerate(encoded["candidate_index"]):
        outputs[number, : len(candidates)] = wanted[candidates]
    predictions = scorer.decode(outputs)
    assert predictions.logits is not None
    np.testing.assert_array_equal(np.concatenate(predictions.logits), wanted)
    assert set(scorer.score(predictions).values()) == {1.0}
    assert all(number >= 0.5 for number in predictions.confidence)
    with pytest.raises(ValueError, match="logits of shape"):
        scorer.decode(outputs[:, :1])
    with pytest.raises(ValueError, match="exactly one encoded row"):
        build_scorer(card, examples, encoded.select(range(1, len(encoded))), {})


def test_choices(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    card = make_card("multiple_choice", (), "accuracy")
    rows = [
        make_example(str(i), "exam", "why", split_group=str(i), choices=choices, answer=answer)
        for i, (choices, answer) in enumerate(
            [(["x", "y", "z"], "y"), (["u", "v"], "u"), (["p", "q", "r"], "q"), (["s", "t"], "s")]
        )
    ]
    scorer = scorer_of(card, rows, tokenizer)
    lowest = float(np.finfo(np.float32).min)
    predictions = scorer.decode(logits([0, 2, 1], [1, 0, lowest], [3, 0, 0], [0, 1, lowest]))
    assert predictions.predicted == ("y", "u", "p", "t")
    assert predictions.confidence[1] == pytest.approx(np.e / (np.e + 1))
    assert scorer.score(predictions) == {"accuracy": 0.5}
    assert scorer.majority() == {"accuracy": 0.5}  # the first two positions are right twice each
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "p.parquet"))
    assert (again.choices, again.predicted) == (predictions.choices, predictions.predicted)
    assert scoring_for(again.target).majority(again) == {"accuracy": 0.5}
    value = scorer.evaluate(predictions, seed=0)["accuracy"]
    assert value.low is not None
    assert value.low < 0.5
    assert scorer.score(replace(predictions, predicted=("y", None, None, None))) == {"accuracy": 0.25}
    with pytest.raises(ValueError, match="logits of shape"):
        scorer.decode(logits([0, 2], [1, 0], [3, 0], [0, 1]))


def test_divergence_is_not_scored(sets: Scorer) -> None:
    outputs = logits([np.nan, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    for decode in (sets.decode, sets.with_best_threshold):
        with pytest.raises(CrosstaskError, match="not all finite"):
            decode(outputs)


def test_large_logits_have_probabilities() -> None:
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0.0, 1e4], dtype=np.float32)), [0.0, 0.5, 1.0])


CARDS = (
    "jnlpba",
    "ddi",
    "gad",
    "hoc",
    "biosses",
    "pubmed_rct",
    "semeval2017t3",
    "semeval2017t3_c",
    "medqa",
    "medmcqa",
)


@pytest.mark.parametrize("name", CARDS)
def test_the_metrics_that_a_card_names_exist(name: str) -> None:
    card = resolve_card(TaskSpec(name=name))
    scoring = scoring_for(Target.of(card, {}))
    assert {card.primary_metric, *card.secondary_metrics} <= {*scoring.metrics, *scoring.weighted}


@pytest.mark.parametrize(
    "type", ["ner", "relation", "classification", "multilabel", "similarity", "ranking", "generation"]
)
def test_default_metrics_exist(type: TaskType) -> None:
    scoring = scoring_for(Target("t", type, ("false", "true")))
    assert {*DEFAULT_METRICS[type]} <= {*scoring.metrics, *scoring.weighted}
