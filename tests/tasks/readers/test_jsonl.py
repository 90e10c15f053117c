from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.schema import make_entity, make_example

Load = Callable[..., TaskData]
MINE = {"name": "mine", "type": "ner", "reader": "jsonl", "labels": ["Drug"]}


def test_columns(load: Load) -> None:
    rows = [{"sentence": "Felt", "y": 1, "more": None}, {"sentence": "Cold", "y": 0, "more": []}]
    data = load(
        {"train.jsonl": "\n".join(json.dumps(row) for row in rows)},
        name="mine",
        type="classification",
        reader="jsonl",
        labels=["good", "bad"],
        columns={"text": "sentence", "labels": "y"},
        options={"label_map": {"1": "good", "0": "bad"}},
    )
    assert data.splits["train"]["labels"] == [["good"], ["bad"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', "is not JSON"),
        ("[]", "expected a JSON object, found a list"),
        ('{"text": "x", "text": "y", "entities": []}', "the key 'text' occurs twice"),
        ('{"text": "x", "entities": [], "score": NaN}', "NaN is not JSON"),
        ('{"text": "\\ud800", "entities": []}', "surrogate"),
        ('{"txt": "x", "entities": []}', "Did you mean 'text'"),
        ('{"text": "x"}', "needs a column for `entities`"),
        ('{"text": "x", "entities": [{"start": 0, "end": 2, "type": "Drug"}]}', None),
        ('{"text": "x", "entities": [{"start": 0, "end": 1, "type": "Gene"}]}', None),
        ("[" * 100_000, "is JSON beyond|is not JSON"),
    ],
)
def test_broken_lines(load: Load, line: str, message: str | None) -> None:
    good = '{"text": "Zinc", "entities": [{"start": 0, "end": 4, "type": "Drug"}]}'
    with pytest.raises(DataFormatError, match=message) as caught:
        load({"train.jsonl": f"{good}\n\n{line}\n"}, **MINE)
    assert ":3" in str(caught.value) or message is None  # the schema's checker names the example, not the line


@st.composite
def examples(draw: st.DrawFn) -> dict[str, Any]:
    text = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20))
    text = text if text.strip() else "felt"
    entities = []
    for number in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        attributes = [{"name": "negated", "value": "yes"}] * draw(st.integers(0, 1))
        normalized = [{"db": "UMLS", "id": "C1"}] * draw(st.integers(0, 1))
        entities.append(
            make_entity(
                f"e{number}", "Drug", [(start, end)], [text[start:end]], normalized=normalized, attributes=attributes
            )
        )
    score, rank = draw(st.none() | st.floats(-1, 1)), draw(st.none() | st.integers(0, 9))
    return make_example("", "mine", text, split_group="g", entities=entities, score=score, rank=rank)


@settings(max_examples=50, deadline=None)
@given(st.lists(examples(), min_size=1, max_size=4))
def test_rows_of_the_schema_round_trip(rows: list[dict[str, Any]]) -> None:
    entity = make_entity("T1", "Drug", [(0, 4)], ["Zinc"])
    rows.append(make_example("", "mine", "Zinc", split_group="g", entities=[entity]))
    rows = [row | {"id": str(number)} for number, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        lines = (json.dumps(row, ensure_ascii=number % 2 == 0) + "\n" for number, row in enumerate(rows))
        (Path(folder) / "train.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
        data = load_task(TaskSpec(**MINE, path=folder), data_dir=None)
    assert data.splits["train"].to_list() == rows
