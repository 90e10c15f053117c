from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import List, Value

from hf_crosstask.encoding import EncodedTask, encode_task
from hf_crosstask.encoding import encode as encode_module
from hf_crosstask.encoding.encode import ENCODERS, tokenizer_fingerprint
from hf_crosstask.errors import InputError
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.schema import TASK_TYPES, make_entity, make_example, to_dataset

CARD = TaskCard(
    name="invented", type="ner", level=1, labels=("Drug", "Gene"), primary_metric="entity_f1", reader="jsonl"
)


def rows(count: int = 3, text: str = "Aspirin inhibits COX-2") -> list[dict[str, Any]]:
    return [
        make_example(
            f"e{i}",
            "invented",
            f"{text} {i}",
            split_group="d",
            entities=[make_entity("T1", "Drug", [(0, 7)], [text[:7]])],
        )
        for i in range(count)
    ]


def encode(tokenizer, examples=None, card: TaskCard = CARD, **options: Any) -> EncodedTask:
    examples = to_dataset(rows()) if examples is None else examples
    return encode_task(examples, card, tokenizer, **{"max_length": 64, "causal": False, **options})


def files() -> set[Path]:
    return set(Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow"))


def test_columns_and_types(bert, tokenizers_by_name):
    features = encode(bert).dataset.features
    shared = {
        "example_index": Value("int32"),
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "labels": List(Value("int32")),
        "word_index": List(Value("int32")),
        "word_position": List(Value("int32")),
    }
    assert features == {**shared, "token_type_ids": List(Value("int8"))}
    assert encode(tokenizers_by_name["llama"], causal=True).dataset.features == shared


def test_batches_of_the_mapping_add_up(bert):
    encoded = encode(bert, to_dataset(rows(2500)))
    assert encoded.dataset["example_index"][:] == list(range(2500))
    assert (encoded.report.examples, encoded.report.rows, encoded.report.entities) == (2500, 2500, 2500)
    assert encoded.report.tokens == sum(map(len, encoded.dataset["input_ids"]))


def test_a_selection_counts_its_own_rows(bert):
    chosen = to_dataset(rows(10)).select([7, 2])
    encoded = encode(bert, chosen)
    assert encoded.dataset["example_index"][:] == [0, 1]
    whole = encode(bert, to_dataset(rows(10)))
    assert encoded.dataset["input_ids"][:] == [whole.dataset["input_ids"][i] for i in (7, 2)]


def test_equal_inputs_are_encoded_once_and_report_the_same(bert, monkeypatch):
    first = encode(bert)
    made = files()
    monkeypatch.setattr("hf_crosstask.encoding.ner.align", None)  # nothing can be encoded from here on
    bert(["a b", "c"], padding=True, truncation=True, max_length=4)  # leaves its settings in the tokenizer
    again = encode(bert)
    assert files() == made
    assert again.report == first.report
    assert again.dataset[:] == first.dataset[:]
    assert again.dataset._fingerprint == first.dataset._fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 63},
        {"stride": 1},
        {"causal": True},
        {"long_inputs": "truncate"},
        {"card": CARD.model_copy(update={"labels": ("Gene", "Drug")})},
        {"card": CARD.model_copy(update={"segmentation": "whitespace"})},
        {"examples": rows(4)},
        {"examples": rows(text="Aspirin inhibits COX-1")},
    ],
    ids=str,
)
def test_whatever_changes_is_encoded_anew(bert, change):
    encode(bert)
    before = files()
    if "examples" in change:
        change = {**change, "examples": to_dataset(change["examples"])}
    encode(bert, **change)
    assert len(files() - before) == 1


def test_another_tokenizer_or_version_is_encoded_anew(tokenizers_by_name, bert, monkeypatch):
    fingerprints = {tokenizer_fingerprint(tokenizer) for tokenizer in tokenizers_by_name.values()}
    assert len(fingerprints) == len(tokenizers_by_name)
    encode(tokenizers_by_name["phi3"])
    encode(bert)
    before = files()
    assert len(before) == 2
    monkeypatch.setattr(encode_module, "ENCODING_VERSION", encode_module.ENCODING_VERSION + 1)
    encode(bert)
    assert len(files() - before) == 1


def test_a_tokenizer_is_known_by_what_it_does(tokenizers_by_name, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = tokenizers_by_name["roberta"]
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer(["a b", "c"], padding=True, truncation=True, max_length=4)  # leaves its settings in the tokenizer
    assert tokenizer_fingerprint(tokenizer) == fingerprint
    tokenizer.save_pretrained(tmp_path)
    copy = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_fingerprint(copy) == fingerprint
    copy.add_tokens(["aspirin"])
    assert tokenizer_fingerprint(copy) != fingerprint


def test_the_cache_is_shared_between_processes(bert, tmp_path):
    bert.save_pretrained(tmp_path / "tokenizer")
    script = tmp_path / "encode.py"
    script.write_text(
        "from __future__ import annotations\n"
        "import sys, datasets\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from transformers import AutoTokenizer\n"
        "from test_encode import encode\n"
        f"encoded = encode(AutoTokenizer.from_pretrained({str(tmp_path / 'tokenizer')!r}))\n"
        "print(encoded.dataset.cache_files[0]['filename'], encoded.report.tokens)\n"
    )
    lines = []
    for seed in ("1", "2"):
        environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "shared"), "PYTHONHASHSEED": seed}
        result = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        lines.append((result.stdout, sum("encoding invented" in line for line in result.stderr.splitlines())))
    (first, bars), (second, later_bars) = lines
    assert first == second
    assert bars > 0  # the progress bar names what it does
    assert later_bars == 0
    assert len(list((tmp_path / "shared").rglob("*.arrow"))) == 1


def test_the_progress_bar_names_task_and_split(bert, capsys):
    datasets.enable_progress_bars()
    encode(bert, split="train")
    assert "encoding invented train" in capsys.readouterr().err


def test_without_caching_nothing_is_written(bert):
    datasets.disable_caching()
    try:
        encoded = encode(bert)
    finally:
        datasets.enable_caching()
    assert files() == set()
    assert encoded.report.rows == 3


def test_lengths_that_do_not_fit_are_errors(bert):
    with pytest.raises(InputError, match="more than the 1024 tokens"):
        encode(bert, max_length=1025)
    with pytest.raises(InputError, match="no room for text beside 2 special tokens"):
        encode(bert, max_length=2)
    with pytest.raises(InputError, match="no examples"):
        encode(bert, to_dataset(rows(3)).select([]))
    with pytest.raises(InputError, match="did you mean 'window'"):
        encode(bert, long_inputs="windows")


@pytest.mark.parametrize("kind", sorted(set(TASK_TYPES) - ENCODERS.keys()))
def test_a_type_without_encoder_is_an_error(bert, kind):
    with pytest.raises(InputError, match=f"task 'invented'.*{kind}"):
        encode(bert, card=CARD.model_copy(update={"type": kind}))


def test_slow_tokenizers_are_refused():
    from transformers import ByT5Tokenizer

    with pytest.raises(InputError, match="fast tokenizer"):
        encode(ByT5Tokenizer())


def test_importing_tags_brings_in_no_heavy_library():
    code = (
        "import sys; from hf_crosstask.encoding import decode_tags, EncodingReport; "
        "assert not {'torch', 'datasets', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
