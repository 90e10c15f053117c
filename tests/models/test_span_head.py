from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, gelu

from hf_crosstask.models.build import build_head
from hf_crosstask.models.span_head import SpanHead
from hf_crosstask.tasks.card import TaskCard

SIZE, REACH, TYPES = 8, 4, 2


@pytest.fixture
def head():
    torch.manual_seed(0)
    return SpanHead(SIZE, TYPES, REACH, dropout=0.3, std=0.5).eval()


@torch.no_grad()
def test_scores_are_biaffine_in_a_word_and_one_farther_on(head):
    hidden, positions = torch.randn(2, 9, SIZE), torch.tensor([[1, 2, 4, 5, 7], [1, 3, 4, 0, 0]])
    head.distance.normal_()
    logits = head(hidden, torch.ones(2, 9), positions)
    assert logits.shape == (2, 5, REACH, 1 + TYPES)
    for row, word, column in [(0, 0, 0), (0, 0, 3), (0, 3, 1), (1, 0, 2), (1, 2, 0)]:
        source = gelu(head.source(hidden[row, positions[row, word]]))
        target = gelu(head.target(hidden[row, positions[row, word + column]]))
        linear = head.source_only(source) + head.target_only(target) + head.distance[column]
        bilinear = torch.stack([source @ weight @ target for weight in head.bilinear])
        torch.testing.assert_close(logits[row, word, column], bilinear + linear, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_other_rows_and_padding_change_nothing(head):
    hidden, positions = torch.randn(2, 9, SIZE), torch.tensor([[1, 2, 4, 5, 7], [1, 3, 4, 0, 0]])
    both = head(hidden, torch.ones(2, 9), positions)
    alone = head(hidden[1:], torch.ones(1, 9), positions[1:, :3])
    exists = torch.arange(3)[:, None] + torch.arange(REACH) < 3
    torch.testing.assert_close(both[1, :3][exists], alone[0][exists])


def test_loss_is_what_a_word_costs(head):
    logits = torch.randn(2, 5, REACH, 1 + TYPES)
    labels = torch.randint(0, 8, (2, 5, REACH))
    labels[0, 4] = labels[1, :, 2] = -100
    kept = labels != -100
    bits = torch.stack([labels[kept] % 2, labels[kept] // 2 % 2, labels[kept] // 4], dim=-1).float()
    each = binary_cross_entropy_with_logits(logits[kept], bits, reduction="none").sum(-1)
    torch.testing.assert_close(head.loss(logits, labels), REACH * each.mean())
    assert head.loss(logits, torch.full_like(labels, -100)) == 0


def test_the_loss_of_a_batch_is_the_mean_over_its_cells(head):
    """As the trainer needs it: losses of parts, weighted by labelled items, sum to the loss of the whole."""
    logits, labels = torch.randn(3, 5, REACH, 1 + TYPES), torch.randint(-1, 8, (3, 5, REACH))
    labels[labels < 0] = -100
    items = (labels != -100).flatten(1).sum(1)
    parts = torch.stack([head.loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close((parts * items).sum() / items.sum(), head.loss(logits, labels))


@torch.no_grad()
def test_a_fresh_head_expects_few_links():
    card = TaskCard(
        name="t", type="span_ner", level=1, labels=("A", "B"), primary_metric="entity_f1", reader="jsonl", reach=7
    )
    config = type("Config", (), {"hidden_size": SIZE, "initializer_range": 0.02})()
    head = build_head(card, config)
    assert isinstance(head, SpanHead)
    probability = head(torch.randn(4, 30, SIZE), torch.ones(4, 30), torch.arange(30).repeat(4, 1)).sigmoid()
    assert probability.shape == (4, 30, 7, 3)
    assert probability.mean() == pytest.approx(0.01, rel=0.2)


def test_words_must_be_given(head):
    with pytest.raises(ValueError, match="word_positions"):
        head(torch.randn(1, 3, SIZE), torch.ones(1, 3))
