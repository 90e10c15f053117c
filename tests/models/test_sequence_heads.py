"""Heads of label sets, scores, choices and rankings: losses by hand, rows of several sequences, plain PEFT twins."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import AutoPeftModelForSequenceClassification
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, pipeline

from hf_crosstask.models.adapters import LoraSettings
from hf_crosstask.models.build import build_head, build_model
from hf_crosstask.models.export import export_task_adapter
from hf_crosstask.models.heads import ChoiceHead, MultilabelHead, RankingHead, ScoreHead
from hf_crosstask.models.lists import present_sequences, scores_by_row
from hf_crosstask.models.precision import Precision
from hf_crosstask.tasks.card import TaskCard

SIZE = 8
FP32 = Precision("fp32", torch.float32)
NEW = {
    "multilabel": TaskCard(
        name="sets", type="multilabel", level=2, labels=("a", "b", "c"), primary_metric="micro_f1", reader="jsonl"
    ),
    "similarity": TaskCard(name="alike", type="similarity", level=2, primary_metric="pearson", reader="jsonl"),
    "multiple_choice": TaskCard(
        name="exam", type="multiple_choice", level=2, primary_metric="accuracy", reader="jsonl"
    ),
    "ranking": TaskCard(
        name="forum", type="ranking", level=2, labels=("false", "true"), primary_metric="map", reader="jsonl"
    ),
}


def head(kind, outputs=1):
    return kind(SIZE, outputs, causal=False, dropout=0.0, std=0.3).eval()


def test_a_label_set_is_one_item():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4), torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    probability = torch.sigmoid(logits)
    each = -(labels * probability.log() + (1 - labels) * (1 - probability).log())
    torch.testing.assert_close(head(MultilabelHead, 4).loss(logits, labels), each.sum(dim=1).mean())
    alone = torch.stack([head(MultilabelHead, 4).loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(head(MultilabelHead, 4).loss(logits, labels), alone.mean())


def test_a_score_is_compared_by_its_square():
    loss = head(ScoreHead).loss(torch.tensor([[0.5], [1.0]]), torch.tensor([0.0, 0.75]))
    assert loss.item() == pytest.approx((0.25 + 0.0625) / 2)


def test_choices_compete_within_their_question_alone():
    lowest = torch.finfo(torch.float32).min
    logits = torch.tensor([[1.0, 2.0, lowest], [0.5, 0.0, -1.0]], requires_grad=True)
    loss = head(ChoiceHead).loss(logits, torch.tensor([0, 2]))
    expected = (cross_entropy(logits[:1, :2], torch.tensor([0])) + cross_entropy(logits[1:], torch.tensor([2]))) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 2] == 0


def by_hand(scores, relevance):
    """The ranking loss of one row, in plain Python loops."""
    probability = torch.sigmoid(scores)
    each = -(relevance * probability.log() + (1 - relevance) * (1 - probability).log())
    pairs = [
        torch.log1p(torch.exp(scores[j] - scores[i]))
        for i in range(len(scores))
        for j in range(len(scores))
        if relevance[i] > relevance[j]
    ]
    return each.mean() + (torch.stack(pairs).mean() if pairs else 0.0)


ROW = st.lists(st.tuples(st.floats(-4, 4), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=6)


@given(st.lists(ROW, min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_the_ranking_loss_is_the_mean_of_its_rows(rows):
    width = max(map(len, rows))
    logits = torch.full((len(rows), width), torch.finfo(torch.float32).min)
    labels = torch.full((len(rows), width), -100.0)
    for i, row in enumerate(rows):
        logits[i, : len(row)] = torch.tensor([score for score, _ in row])
        labels[i, : len(row)] = torch.tensor([relevance for _, relevance in row])
    logits.requires_grad_()
    loss = head(RankingHead).loss(logits, labels)
    expected = torch.stack([by_hand(logits[i, : len(row)], labels[i, : len(row)]) for i, row in enumerate(rows)])
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-5, atol=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[labels == -100].any()


def test_the_pairwise_term_moves_the_relevant_up_and_the_others_down():
    scores = torch.zeros(1, 3, requires_grad=True)
    head(RankingHead).loss(scores, torch.tensor([[1.0, 0.0, 0.0]])).backward()
    assert scores.grad is not None
    gradient = scores.grad[0]
    pointwise = torch.tensor([-0.5, 0.5, 0.5]) / 3
    pairwise = torch.tensor([-0.5, 0.25, 0.25])
    torch.testing.assert_close(gradient, pointwise + pairwise)


def test_scores_go_back_to_their_rows():
    mask = torch.tensor([[[1, 1], [1, 0], [0, 0]], [[1, 0], [0, 0], [0, 0]]])
    present = present_sequences(mask)
    assert present.tolist() == [[True, True, False], [True, False, False]]
    scores = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.bfloat16, requires_grad=True)
    rows = scores_by_row(scores, present)
    lowest = torch.finfo(torch.bfloat16).min
    assert rows.tolist() == [[1, 2, lowest], [3, lowest, lowest]]
    rows[present].sum().backward()
    assert scores.grad is not None
    assert scores.grad.flatten().tolist() == [1, 1, 1]


@pytest.fixture
def new_model(tiny):
    def make(family, *, lora=LoraSettings(r=4)):  # noqa: B008  # frozen
        made = tiny(family)
        model = build_model(
            made.source, made.config, NEW.values(), precision=FP32, lora=lora, head_dropout=0.0, seed=1
        ).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        return model, made

    return make


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_sequences_of_a_row_do_not_see_each_other(new_model, family):
    """A row of several sequences gives what each gives alone, however the batch is padded."""
    model, made = new_model(family)
    flat = made.encoded()
    alone = model(task="exam", **flat).logits[:, 0]
    nested = {name: torch.zeros(2, 2, values.shape[1] + 3, dtype=values.dtype) for name, values in flat.items()}
    nested["input_ids"].fill_(made.tokenizer.pad_token_id)
    for name, values in flat.items():
        nested[name][0, 0, :-3], nested[name][0, 1, :-3], nested[name][1, 0, :-3] = values
    logits = model(task="exam", **nested).logits
    torch.testing.assert_close(logits[[0, 0, 1], [0, 1, 0]], alone, rtol=0, atol=1e-5)
    assert logits[1, 1] == torch.finfo(torch.float32).min
    assert logits.isfinite().all()
    loss = model(task="forum", labels=torch.tensor([[1.0, 0.0], [0.0, -100.0]]), **nested).loss
    assert loss is not None
    assert loss.isfinite()


def test_gradients_are_finite_where_rows_differ_in_length(new_model):
    model, made = new_model("bert")
    flat = made.encoded()
    nested = {name: torch.stack([values[:2], torch.zeros_like(values[:2])]) for name, values in flat.items()}
    nested = {name: values.transpose(0, 1).contiguous() for name, values in nested.items()}  # one sequence a row
    model(task="exam", labels=torch.tensor([0, 0]), **nested).loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "qwen2"])
@pytest.mark.parametrize("kind", NEW)
def test_plain_peft_classes_give_our_scores(new_model, tmp_path, family, kind):
    model, made = new_model(family)
    card = NEW[kind]
    export_task_adapter(model, card, tmp_path, tokenizer=made.tokenizer, base_model=made.source.name_or_path)
    labels = json.loads((tmp_path / "labels.json").read_text())
    assert labels == (["a", "b", "c"] if kind == "multilabel" else ["score"])
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    problem = "multi_label_classification" if kind == "multilabel" else "regression"
    readme = (tmp_path / "README.md").read_text()
    assert f'problem_type="{problem}",' in readme
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=len(labels), problem_type=problem, **names
    ).eval()
    batch = made.encoded()
    ours = model(task=card.name, **batch).logits
    torch.testing.assert_close(theirs(**batch).logits, ours, rtol=0, atol=1e-5)
    # The pipeline of the README, with its own arguments.
    function = "sigmoid" if kind in ("multilabel", "ranking") else "none"
    assert f'function_to_apply="{function}"' in readme
    run = pipeline(
        "text-classification",
        model=theirs.merge_and_unload(),
        tokenizer=AutoTokenizer.from_pretrained(tmp_path),
    )
    text = "no drug was given"
    found = run(text, top_k=None, function_to_apply=function)
    expected = ours[1].sigmoid() if function == "sigmoid" else ours[1]
    assert {entry["label"]: entry["score"] for entry in found} == pytest.approx(
        dict(zip(labels, expected.tolist(), strict=True)), abs=1e-4
    )


def test_every_new_head_has_its_outputs(tiny):
    config = tiny("bert").config
    assert {kind: build_head(card, config).output.out_features for kind, card in NEW.items()} == {
        "multilabel": 3,
        "similarity": 1,
        "multiple_choice": 1,
        "ranking": 1,
    }
