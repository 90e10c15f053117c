"""Predictions survive parquet exactly, and are enough to score a run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.evaluation.scoring import scoring_for

NER = Target("genes", "ner", ("Gene", "Cell"), lost_gold={"Gene": 2})
RELATION = Target("pairs", "relation", ("none", "x", "y"), "none", {"x": 1})


def assert_same(one: Predictions, other: Predictions) -> None:
    for name in ("target", "ids", "split_groups", "gold", "predicted", "confidence", "alternatives"):
        assert getattr(one, name) == getattr(other, name), name
    assert (one.logits is None) == (other.logits is None)
    for mine, theirs in zip(one.logits or (), other.logits or (), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert theirs.dtype == np.float32
            np.testing.assert_array_equal(mine, theirs)


def test_entities_round_trip(tmp_path: Path, make_predictions: Callable[..., Predictions]) -> None:
    split = Entity("Cell", ((0, 3), (6, 9)))
    gold = [[Entity("Gene", ((2, 5),)), split], [], [split]]
    predictions = make_predictions(
        NER, gold, [[Entity("Gene", ((2, 5),))], [Entity("Gene", ((0, 1),))], []], alternatives=[[], [split], []]
    )
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "deep" / "genes.parquet"))
    assert_same(predictions, again)
    assert scoring_for(again.target).score(again) == scoring_for(NER).score(predictions)
    assert scoring_for(again.target).score(again)["entity_f1"] == pytest.approx(2 / (2 + 1 + 2 + 2))


def test_labels_round_trip(tmp_path: Path) -> None:
    logits = (np.array([0.1, 2.0, -1.0], dtype=np.float32), None)
    predictions = Predictions(
        RELATION, ("a", "b"), ("d1", "d2"), (("x", "y"), ("none",)), ("x", None), (0.8, None), logits=logits
    )
    again = Predictions.from_parquet(predictions.to_parquet(tmp_path / "pairs.parquet"))
    assert_same(predictions, again)
    assert scoring_for(again.target).score(again) == scoring_for(RELATION).score(predictions)


def test_columns_of_the_file(tmp_path: Path, make_predictions: Callable[..., Predictions]) -> None:
    """A reader without this library finds the documented columns."""
    import pandas

    gene = Entity("Gene", ((2, 5),))
    path = make_predictions(NER, [[gene]], [[gene]]).to_parquet(tmp_path / "genes.parquet")
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == ["id", "split_group", "gold", "prediction", "confidence"]
    assert frame["gold"][0][0]["type"] == "Gene"
    assert [list(pair) for pair in frame["gold"][0][0]["offsets"]] == [[2, 5]]
    assert list(frame["confidence"][0]) == [0.5]
    assert list(tmp_path.iterdir()) == [path]


def test_unequal_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Predictions(RELATION, ("a", "b"), ("d1", "d2"), (("x",),), ("x", "y"), (0.1, 0.2))


def test_bad_files(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    with pytest.raises(InputError, match="no such predictions file"):
        Predictions.from_parquet(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("id,gold")
    with pytest.raises(InputError, match="not a whole parquet file"):
        Predictions.from_parquet(tmp_path / "text.parquet")
    pa.parquet.write_table(pa.table({"id": ["a"]}), tmp_path / "foreign.parquet")
    with pytest.raises(InputError, match="not written as predictions of hf_crosstask"):
        Predictions.from_parquet(tmp_path / "foreign.parquet")


def test_no_examples(tmp_path: Path) -> None:
    for target in (NER, RELATION):
        empty = Predictions(target, (), (), (), (), ())
        assert_same(empty, Predictions.from_parquet(empty.to_parquet(tmp_path / f"{target.task}.parquet")))
