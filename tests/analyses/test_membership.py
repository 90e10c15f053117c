"""Membership scores by hand and against a model that really memorised its training texts."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from hf_crosstask.analyses.contamination import read_texts
from hf_crosstask.analyses.membership import (
    TokenScores,
    auroc,
    auroc_interval,
    blind_auroc,
    interpretable,
    membership_scores,
    ordering_test,
    token_scores,
)
from hf_crosstask.analyses.probe import pooled_states, probe, probe_labels
from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.models.tiny import build_tiny

WORDS = """the a gene drug binds blocks raises lowers cell blood heart liver dose trial patient risk
""".split()  # noqa: SIM905


def texts(seed: int, count: int, length: int = 14) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, length)) for _ in range(count)]


@pytest.fixture(scope="module")
def memorised(tmp_path_factory):
    """A tiny decoder that was trained on `texts(1)` in their order, its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = build_tiny("tiny:llama", texts(0, 60), tmp_path_factory.mktemp("model"), seed=0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text, return_tensors="pt")["input_ids"] for text in ("\n\n".join(texts(1, 8)), *texts(1, 8))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(40):
        optimizer.zero_grad()
        for each in ids:
            model(input_ids=each, labels=each).loss.backward()
        optimizer.step()
    return model, tokenizer


def test_scores_by_hand():
    scores = TokenScores(np.log([0.5, 0.1, 0.2]), np.array([-1.0, -1.0, -2.0]), np.array([1.0, 0.5, 2.0]))
    found = membership_scores("abc", scores, share=0.2)
    assert found["loss"] == pytest.approx(np.log([0.5, 0.1, 0.2]).mean())
    assert found["min_k"] == pytest.approx(np.log(0.1)), "a share of nothing is still one token"
    assert found["min_k_plus_plus"] == pytest.approx((np.log(0.1) + 1) / 0.5)
    assert found["zlib"] == pytest.approx(np.log([0.5, 0.1, 0.2]).sum() / len(zlib.compress(b"abc")))


def test_auroc_counts_ties_half():
    assert auroc(np.array([1.0, 2.0]), np.array([0.0])) == 1
    assert auroc(np.array([1.0]), np.array([1.0, 0.0, 2.0])) == 0.5
    low, high = auroc_interval(np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.5]), ["a", "a", "b"], replicates=200)
    assert 0 <= low <= 5 / 6 <= high <= 1


def test_what_was_memorised_scores_higher(memorised):
    model, tokenizer = memorised
    found = [
        [
            membership_scores(text, each)["min_k"]
            for text, each in zip(some, token_scores(model, tokenizer, some, max_length=64), strict=True)
        ]
        for some in (texts(1, 8), texts(2, 8))
    ]
    assert auroc(*map(np.array, found)) > 0.9


def test_a_memorised_file_is_preferred_in_its_own_order(memorised):
    model, tokenizer = memorised
    seen = ordering_test(model, tokenizer, texts(1, 8), max_length=512, permutations=19)
    unseen = ordering_test(model, tokenizer, texts(3, 8), max_length=512, permutations=19)
    assert seen.p == 1 / 20
    assert unseen.p > 1 / 20


def test_expectations_are_those_of_the_models_own_distribution(memorised):
    model, tokenizer = memorised
    (scores,) = token_scores(model, tokenizer, texts(2, 1), max_length=64)
    ids = tokenizer(texts(2, 1)[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logs = model(input_ids=ids).logits[0, 0].double().log_softmax(-1)
    assert scores.mean[0] == pytest.approx(float((logs.exp() * logs).sum()), abs=1e-5)
    assert scores.log_likelihood[0] == pytest.approx(float(logs[ids[0, 1]]), abs=1e-5)
    assert token_scores(model, tokenizer, [""], max_length=64) == [None]


def test_words_that_tell_the_sets_apart_make_scores_worthless():
    other = [text.replace("the", "whilst").replace("gene", "locus") for text in texts(5, 20)]
    blind = blind_auroc(texts(4, 20), other)
    assert blind > 0.9
    assert not interpretable({"loss": 0.8}, blind)
    assert interpretable({"loss": 0.8}, 0.55)
    assert not interpretable({"loss": 0.8}, 0.1), "a classifier that is always wrong tells them apart as well"
    with pytest.raises(InputError, match="at least five texts"):
        blind_auroc(["a"], other)


def test_reference_texts_are_checked(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"text": "one"}\n\n{"txt": "two"}\n')
    with pytest.raises(DataFormatError, match=r"r\.jsonl:3: expected an object with a non-empty"):
        read_texts(file)
    lines = tmp_path / "r.txt"
    lines.write_text("one\ntwo\n")
    assert read_texts(lines) == ["one", "two"]


def test_a_probe_finds_what_is_there_and_its_control_does_not():
    generator = np.random.default_rng(0)
    labels = ["a", "b"] * 60
    states = generator.normal(size=(120, 8)) + np.array(
        [[3.0 if label == "a" else 0.0] + [0.0] * 7 for label in labels]
    )
    score, control = probe(states[:80], labels[:80], states[80:], labels[80:])
    assert score > 0.85
    assert control < 0.75
    with pytest.raises(InputError, match="no probe for task type similarity"):
        probe_labels("similarity", {})


def test_padding_does_not_change_pooled_states(memorised):
    model, tokenizer = memorised
    some = ["the gene", "the gene binds the heart of the patient and the drug"]
    together = pooled_states(model.model, tokenizer, some, max_length=64)
    alone = pooled_states(model.model, tokenizer, some[:1], max_length=64)
    assert len(together) == model.config.num_hidden_layers + 1
    np.testing.assert_allclose(together[-1][0], alone[-1][0], atol=1e-5)
