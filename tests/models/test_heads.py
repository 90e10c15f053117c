from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hf_crosstask.models.heads import RelationHead, SequenceHead, TokenHead

SIZE = 8


@pytest.fixture
def states():
    """Hidden states [3, 5, 8] of three rows with 5, 2 and 4 tokens."""
    torch.manual_seed(0)
    hidden = torch.randn(3, 5, SIZE)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
    return hidden, mask


def sequence_head(**options):
    return SequenceHead(SIZE, 3, dropout=0.0, std=0.3, **options).eval()


def test_token_head_is_linear_in_every_token(states):
    hidden, mask = states
    head = TokenHead(SIZE, 4, dropout=0.5, std=0.3).eval()
    torch.testing.assert_close(head(hidden, mask), hidden @ head.output.weight.T + head.output.bias)


def test_encoders_classify_by_the_first_token(states):
    hidden, mask = states
    head = sequence_head(causal=False)
    expected = head.output(torch.tanh(head.dense(hidden[:, 0])))
    torch.testing.assert_close(head(hidden, mask), expected)


def test_decoders_classify_by_the_last_token_that_is_not_padding(states):
    hidden, mask = states
    head = sequence_head(causal=True)
    assert head.dense is None
    assert head.output.bias is None
    torch.testing.assert_close(head(hidden, mask), hidden[[0, 1, 2], [4, 1, 3]] @ head.output.weight.T)


def test_the_dense_layer_starts_from_the_pooler():
    pooler = nn.Linear(SIZE, SIZE)
    head = sequence_head(causal=False, pooler=pooler)
    assert torch.equal(head.dense.weight, pooler.weight)
    assert torch.equal(head.dense.bias, pooler.bias)
    with torch.no_grad():
        head.dense.weight.add_(1)
    assert not torch.equal(head.dense.weight, pooler.weight)  # a copy


@pytest.mark.parametrize(("first", "drops"), [(False, 1), (True, 2)])
def test_dropout_stands_where_the_architecture_has_it(states, first, drops):
    hidden, mask = states
    head = SequenceHead(SIZE, 3, causal=False, dropout=0.5, std=0.3, dropout_first=first)
    calls = []
    head.dropout.register_forward_hook(lambda *_: calls.append(1))
    head(hidden, mask)
    assert len(calls) == drops


def test_relation_head_reads_the_two_markers(states):
    hidden, mask = states
    head = RelationHead(SIZE, 3, dropout=0.0, std=0.3).eval()
    positions = torch.tensor([[1, 4], [1, 0], [3, 2]])
    pair = torch.stack([torch.cat([hidden[row, a], hidden[row, b]]) for row, (a, b) in enumerate(positions.tolist())])
    torch.testing.assert_close(head(hidden, mask, positions), head.output(torch.tanh(head.dense(pair))))
    with pytest.raises(ValueError, match="entity_positions"):
        head(hidden, mask)


def test_loss_is_the_mean_over_labelled_items():
    torch.manual_seed(0)
    head = TokenHead(SIZE, 4, dropout=0.0, std=0.3)
    logits = torch.randn(2, 5, 4)
    labels = torch.tensor([[-100, 1, 0, 3, -100], [2, -100, -100, -100, -100]])
    kept = labels != -100
    torch.testing.assert_close(head.loss(logits, labels), cross_entropy(logits[kept], labels[kept]))
    torch.testing.assert_close(head.loss(logits[:, 0], labels[1, :2]), cross_entropy(logits[:1, 0], labels[1, :1]))


def test_loss_without_a_label_is_zero_with_zero_gradient():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = TokenHead(SIZE, 4, dropout=0.0, std=0.3).loss(logits, torch.full((2, 3), -100))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_loss_of_half_precision_logits_is_in_full_precision():
    head = TokenHead(SIZE, 4, dropout=0.0, std=0.3)
    logits = (torch.randn(2, 3, 4) * 20).to(torch.bfloat16)
    labels = torch.tensor([[0, 1, 2], [3, -100, 1]])
    assert head.loss(logits, labels).dtype == torch.float32
    torch.testing.assert_close(head.loss(logits, labels), head.loss(logits.float(), labels), rtol=0, atol=0)


def test_states_of_a_half_precision_backbone_are_taken(states):
    hidden, mask = states
    positions = torch.tensor([[0, 1]] * 3)
    for head in (
        TokenHead(SIZE, 4, dropout=0.0, std=0.3),
        sequence_head(causal=False),
        sequence_head(causal=True),
        RelationHead(SIZE, 3, dropout=0.0, std=0.3),
    ):
        assert head.eval()(hidden.to(torch.bfloat16), mask, positions).dtype == torch.float32
