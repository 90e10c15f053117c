"""Task heads. Their parameters map one to one on the heads of transformers' own task classes, so that they export.

| head | input | output | transformers twin |
|---|---|---|---|
| `TokenHead` | every token's state | [B, L, tags] | `…ForTokenClassification` |
| `SequenceHead` | first token's (encoder) or last token's (decoder) state | [B, labels] | `…ForSequenceClassification` |
| `RelationHead` | states at the two entity markers, concatenated | [B, labels] | none (Baldini Soares et al. 2019, §3.2) |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

IGNORED = -100


def _linear(inputs: int, outputs: int, *, bias: bool = True, std: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class TaskHead(nn.Module):
    """A head: `forward(hidden, **positions) -> logits` and the mean loss over the items that carry a label."""

    def forward(self, hidden: Tensor, attention_mask: Tensor, entity_positions: Tensor | None = None) -> Tensor:
        """Logits from hidden states [B, L, H] and attention mask [B, L]."""
        raise NotImplementedError  # abstract

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over items whose label is not -100 (0 where there is none), in fp32."""
        flat = logits.float().flatten(0, -2)
        targets = labels.flatten()
        total = cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")
        return total / (targets != IGNORED).sum().clamp(min=1)


class TokenHead(TaskHead):
    """One label per token: dropout and a linear layer."""

    def __init__(self, hidden_size: int, labels: int, *, dropout: float, std: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = _linear(hidden_size, labels, std=std)

    def forward(self, hidden: Tensor, attention_mask: Tensor, entity_positions: Tensor | None = None) -> Tensor:
        return self.output(self.dropout(hidden.to(self.output.weight.dtype)))


class SequenceHead(TaskHead):
    """One label per input.

    Encoders: the first token through a dense tanh layer (started from the pretrained pooler where there is one), as
    BERT and RoBERTa do. Decoders: the last token, linear without bias, as transformers' generic class does.
    """

    def __init__(
        self,
        hidden_size: int,
        labels: int,
        *,
        causal: bool,
        dropout: float,
        std: float,
        dropout_first: bool = False,
        pooler: nn.Linear | None = None,
    ):
        super().__init__()
        self.causal, self.dropout_first = causal, dropout_first
        self.dropout = nn.Dropout(dropout)
        self.dense = None
        if not causal:
            self.dense = _linear(hidden_size, hidden_size, std=std)
            if pooler is not None:
                with torch.no_grad():
                    self.dense.weight.copy_(pooler.weight)
                    self.dense.bias.copy_(pooler.bias)
        self.output = _linear(hidden_size, labels, bias=not causal, std=std)

    def forward(self, hidden: Tensor, attention_mask: Tensor, entity_positions: Tensor | None = None) -> Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        position = attention_mask.sum(dim=1) - 1 if self.causal else torch.zeros_like(rows)
        state = hidden[rows, position].to(self.output.weight.dtype)
        if self.dense is None:
            return self.output(self.dropout(state))
        if self.dropout_first:
            state = self.dropout(state)
        return self.output(self.dropout(torch.tanh(self.dense(state))))


class RelationHead(TaskHead):
    """One label per candidate pair, from the states at its two entity markers."""

    def __init__(self, hidden_size: int, labels: int, *, dropout: float, std: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = _linear(2 * hidden_size, hidden_size, std=std)
        self.output = _linear(hidden_size, labels, std=std)

    def forward(self, hidden: Tensor, attention_mask: Tensor, entity_positions: Tensor | None = None) -> Tensor:
        if entity_positions is None:
            raise ValueError("a relation batch needs entity_positions [B, 2]")
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        pair = hidden[rows, entity_positions].flatten(1).to(self.output.weight.dtype)
        return self.output(self.dropout(torch.tanh(self.dense(self.dropout(pair)))))
