"""From logits to values, through the real encoding: windows, truncation, misaligned and discontiguous gold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hf_crosstask.encoding.encode import encode_task
from hf_crosstask.errors import CrosstaskError, InputError
from hf_crosstask.evaluation.decoding import TagDecoder, log_softmax
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Target
from hf_crosstask.evaluation.scorer import Scorer, build_scorer
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import make_entity, make_example, to_dataset

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

MakeCard = Callable[..., TaskCard]


@pytest.fixture(scope="session")
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


def ner_example(name: str, text: str, *mentions: tuple[str, str], group: str = "") -> dict[str, Any]:
    """An example whose entities are the first occurrences of the mentions."""
    entities = [
        make_entity(f"T{number}", type, [(text.index(part), text.index(part) + len(part))], [part])
        for number, (type, part) in enumerate(mentions)
    ]
    return make_example(name, "genes", text, split_group=group or name, entities=entities)


def oracle(encoded: Dataset, tags: int, margin: float = 20.0) -> list[np.ndarray]:
    """Logits of a model that gives every supervised token its own label."""
    rows = []
    for labels in encoded["labels"]:
        row = np.zeros((len(labels), tags), dtype=np.float32)
        for position, label in enumerate(labels):
            row[position, max(label, 0)] = margin
        rows.append(row)
    return rows


def encode(card: TaskCard, examples: Dataset, tokenizer: PreTrainedTokenizerBase, **options: Any) -> Dataset:
    return encode_task(examples, card, tokenizer, **{"max_length": 64, "causal": False, **options}).dataset


GENES = [
    ner_example("1", "the p53 protein binds mdm2 (hdm2)", ("Gene", "p53 protein"), ("Gene", "hdm2"), ("Cell", "mdm2")),
    ner_example("2", "no entity here"),
    ner_example("3", "il-2 and il-4 rise in cd4 cells", ("Gene", "il-2"), ("Gene", "il-4"), ("Cell", "cd4 cells")),
]


def test_right_logits_find_every_entity(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> None:
    card, examples = make_card("ner", ("Gene", "Cell"), "entity_f1"), to_dataset(GENES)
    rows = encode(card, examples, tokenizer)
    scorer = build_scorer(card, examples, rows, {})
    predictions = scorer.decode(oracle(rows, 5))
    assert predictions.ids == ("1", "2", "3")
    assert [set(row) for row in predictions.predicted] == [set(row) for row in predictions.gold]
    metrics = ("entity_f1", "entity_precision", "entity_recall", "entity_f1_merged")
    assert scorer.score(predictions) == dict.fromkeys(metrics, 1.0)
    assert scorer.majority() == dict.fromkeys(metrics, 0.0)
    assert scorer.interval(predictions, "entity_f1", seed=0)[1] == 1.0
    assert all(0.99 < number <= 1 for row in predictions.confidence for number in row)


def test_windows_see_what_truncation_loses(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> None:
    """Entities that truncation cuts stay in the gold standard as misses; windows find them all."""
    text = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"
    example = ner_example("1", text, ("Gene", "alpha"), ("Gene", "zeta eta"), ("Gene", "kappa lambda"))
    card, examples = make_card("ner", ("Gene",), "entity_f1"), to_dataset([example, GENES[1]])
    windows = encode(card, examples, tokenizer, max_length=16, stride=6)
    assert len(windows) > 4
    seen = build_scorer(card, examples, windows, {})
    assert seen.score(seen.decode(oracle(windows, 3)))["entity_f1"] == 1.0
    cut = encode(card, examples, tokenizer, max_length=16, long_inputs="truncate")
    scorer = build_scorer(card, examples, cut, {})
    values = scorer.score(scorer.decode(oracle(cut, 3)))
    assert values["entity_recall"] == pytest.approx(1 / 3)
    assert values["entity_precision"] == 1.0


def test_gold_that_tags_cannot_hold_is_missed(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> None:
    """A mention inside a word and a discontiguous mention count as gold and can only be missed."""
    text = "abnormal liver and kidney values"
    entities = [
        make_entity("T1", "Gene", [(2, 8)], ["normal"]),
        make_entity("T2", "Gene", [(9, 14), (26, 32)], ["liver", "values"]),
        make_entity("T3", "Gene", [(19, 25)], ["kidney"]),
    ]
    examples = to_dataset([make_example("1", "genes", text, split_group="1", entities=entities)])
    card = make_card("ner", ("Gene",), "entity_f1")
    rows = encode(card, examples, tokenizer)
    scorer = build_scorer(card, examples, rows, {})
    predictions = scorer.decode(oracle(rows, 3))
    assert predictions.predicted == ((Entity("Gene", ((19, 25),)),),)
    assert scorer.score(predictions)["entity_recall"] == pytest.approx(1 / 3)


def rows_of(*rows: tuple[int, list[int], list[int]]) -> Dataset:
    """Encoded rows by hand: example, words owned, token of each word."""
    from datasets import Dataset

    names = ("example_index", "word_index", "word_position")
    return Dataset.from_dict({name: [row[number] for row in rows] for number, name in enumerate(names)})


def tag_logits(*tags: int, width: int = 3, margin: float = 5.0) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[list(tags)] * margin


def test_tags_are_read_strictly_across_windows_in_word_order(make_card: MakeCard) -> None:
    """O=0 B=1 I=2. The second window comes first; an I- that continues nothing is no entity; word 3 has no owner."""
    card = make_card("ner", ("Gene",), "entity_f1", segmentation="whitespace")
    examples = to_dataset([make_example("1", "genes", "aa bb cc dd ee ff", split_group="1")])
    rows = rows_of((0, [2, 4, 5], [1, 2, 3]), (0, [0, 1], [3, 1]))
    decoder = TagDecoder(card, Target.of(card, {}), examples, rows)
    predictions = decoder.decode([tag_logits(0, 2, 2, 1, 0), tag_logits(0, 2, 1, 1)])
    # words: aa B, bb I, cc I, dd (unowned) O, ee I (dropped), ff B
    assert predictions.predicted == ((Entity("Gene", ((0, 8),)), Entity("Gene", ((15, 17),))),)
    word = np.exp(5) / (np.exp(5) + 2)
    assert predictions.confidence[0] == pytest.approx((word**3, word))


def test_rows_that_do_not_fit_the_examples(make_card: MakeCard) -> None:
    card = make_card("ner", ("Gene",), "entity_f1", segmentation="whitespace")
    examples = to_dataset([make_example("1", "genes", "aa bb", split_group="1")])
    target = Target.of(card, {})
    with pytest.raises(ValueError, match="more words than its example"):
        TagDecoder(card, target, examples, rows_of((0, [0, 2], [1, 2])))
    with pytest.raises(ValueError, match="own the same word"):
        TagDecoder(card, target, examples, rows_of((0, [0, 1], [1, 2]), (0, [1], [1])))
    scorer = build_scorer(card, examples, rows_of((0, [0, 1], [1, 2])), {})
    with pytest.raises(ValueError, match="2 arrays of logits for 1 encoded rows"):
        scorer.decode([tag_logits(0, 0, 0)] * 2)
    with pytest.raises(ValueError, match=r"shape \[length, 3\] expected"):
        scorer.decode([tag_logits(0, 0, 0, width=5)])


def test_divergence_is_not_scored_as_outside(make_card: MakeCard) -> None:
    card = make_card("ner", ("Gene",), "entity_f1", segmentation="whitespace")
    examples = to_dataset([make_example("1", "genes", "aa bb", split_group="1")])
    scorer = build_scorer(card, examples, rows_of((0, [0, 1], [1, 2])), {})
    with pytest.raises(CrosstaskError, match="not all finite numbers"):
        scorer.decode([np.full((3, 3), np.nan, dtype=np.float32)])


def pair(name: str, *types: str) -> dict[str, Any]:
    text = "drug hits gene"
    entities = [make_entity("h", "C", [(0, 4)], ["drug"]), make_entity("t", "G", [(10, 14)], ["gene"])]
    relations = [{"id": f"r{i}", "type": type, "head": "h", "tail": "t"} for i, type in enumerate(types)]
    return make_example(name, "pairs", text, split_group=f"doc{name}", entities=entities, relations=relations)


@pytest.fixture
def relation_scorer(make_card: MakeCard, tokenizer: PreTrainedTokenizerBase) -> Scorer:
    card = make_card("relation", ("none", "x", "y"), "micro_f1", negative_label="none")
    examples = to_dataset([pair("1", "x"), pair("2", "x", "y"), pair("3", "none"), pair("4", "y")])
    return build_scorer(card, examples, encode(card, examples, tokenizer), {"y": 1})


def test_relations(relation_scorer: Scorer) -> None:
    logits = [np.array(row, dtype=np.float32) for row in ([0, 3, 0], [0, 0, 3], [0, 3, 0], [3, 0, 0])]
    predictions = relation_scorer.decode(logits)
    assert predictions.predicted == ("x", "y", "x", "none")
    assert predictions.gold == (("x",), ("x", "y"), ("none",), ("y",))
    assert predictions.confidence == pytest.approx([np.exp(3) / (np.exp(3) + 2)] * 4)
    values = relation_scorer.score(predictions)
    assert values["micro_f1"] == pytest.approx(4 / (4 + 1 + 2 + 1))  # 2 right, 1 wrong, 2 missed, 1 lost
    assert values["micro_f1_candidates"] == pytest.approx(4 / (4 + 1 + 2))
    assert predictions.logits is not None
    np.testing.assert_array_equal(predictions.logits[0], logits[0])
    assert relation_scorer.majority()["micro_f1"] == 0.0


def test_classification_windows_average_and_missing_rows_are_wrong(make_card: MakeCard) -> None:
    from datasets import Dataset

    card = make_card("classification", ("yes", "no"), "accuracy")
    examples = to_dataset(
        [
            make_example(str(i), "answers", "why", split_group=str(i), labels=[label])
            for i, label in enumerate(("no", "yes", "no"))
        ]
    )
    scorer = build_scorer(card, examples, Dataset.from_dict({"example_index": [1, 0, 0]}), {})
    logits = [np.array(row, dtype=np.float32) for row in ([2, 0], [1, 0], [0, 3])]
    predictions = scorer.decode(logits)
    assert predictions.predicted == ("no", "yes", None)
    assert predictions.confidence[0] == pytest.approx(np.exp(1.5) / (np.exp(0.5) + np.exp(1.5)))
    assert predictions.confidence[2] is None
    assert scorer.score(predictions)["accuracy"] == pytest.approx(2 / 3)
    assert scorer.majority()["accuracy"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"shape \[2\] expected"):
        scorer.decode([np.zeros(3, dtype=np.float32)] * 3)


def test_log_softmax_of_large_scores() -> None:
    scores = np.array([[1000.0, 0.0], [-1000.0, -1000.0]], dtype=np.float32)
    np.testing.assert_allclose(log_softmax(scores), [[0.0, -1000.0], [-np.log(2), -np.log(2)]])


def test_the_primary_metric_must_exist(make_card: MakeCard) -> None:
    from datasets import Dataset

    answers = to_dataset([make_example("1", "answers", "why", split_group="1", labels=["a"])])
    rows = Dataset.from_dict({"example_index": [0]})
    with pytest.raises(InputError, match="unknown primary_metric 'acuracy'; did you mean 'accuracy'"):
        build_scorer(make_card("classification", ("a", "b"), "acuracy"), answers, rows, {})
    genes = to_dataset([make_example("1", "genes", "aa bb", split_group="1")])
    with pytest.raises(InputError, match="needs acceptable alternatives, and these examples carry none"):
        build_scorer(make_card("ner", ("Gene",), "entity_f1_alternatives"), genes, rows_of((0, [0], [1])), {})
    with pytest.raises(InputError, match="unknown primary_metric 'rouge'; did you mean 'rouge_l'"):
        build_scorer(make_card("generation", (), "rouge"), genes, rows, {})


def test_alternatives_come_from_entity_attributes(make_card: MakeCard) -> None:
    marks = [
        {"name": "alternative", "value": "0:5"},
        {"name": "neutral", "value": "9:11"},
        {"name": "x", "value": "y"},
    ]
    entity = make_entity("T1", "Gene", [(3, 5)], ["bb"], attributes=marks)
    examples = to_dataset([make_example("1", "genes", "aa bb cc dd", split_group="1", entities=[entity])])
    card = make_card("ner", ("Gene",), "entity_f1_alternatives", segmentation="whitespace")
    scorer = build_scorer(card, examples, rows_of((0, [0, 1, 2, 3], [0, 1, 2, 3])), {})
    values = scorer.score(scorer.decode([tag_logits(1, 2, 0, 1)]))  # the alternative and the neutral span
    assert values["entity_f1"] == 0.0
    assert values["entity_f1_alternatives"] == 1.0
