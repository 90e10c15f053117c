"""Task heads. Their parameters map one to one on the heads of transformers' own task classes, so that they export.

| head | input | output | transformers twin |
|---|---|---|---|
| `TokenHead` | every token's state | [B, L, tags] | `…ForTokenClassification` |
| `SequenceHead` | first token's (encoder) or last token's (decoder) state | [B, labels] | `…ForSequenceClassification` |
| `MultilabelHead` | as `SequenceHead` | [B, labels] | the same, `problem_type="multi_label_classification"` |
| `ScoreHead` | as `SequenceHead` | [B, 1] | the same, `num_labels=1` (`problem_type="regression"`) |
| `ChoiceHead`, `RankingHead` | as `SequenceHead`, each sequence of a row by itself | [N, 1] | the same, `num_labels=1` |
| `SpanHead` (`span_head.py`) | states of words | [B, W, reach, links] | none (Li et al. 2022, `encoding/links.py`) |
| `RelationHead` | states at the two entity markers, concatenated | [B, labels] | none (Baldini Soares et al. 2019, §3.2) |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss, softplus

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


class MultilabelHead(SequenceHead):
    """Any number of labels per input: one logit each, a label holds where its sigmoid reaches a threshold."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy summed over the labels [B, labels] (1 or 0), mean over the rows, in fp32.

        Summed, so that a row is one decision on a label set, as a row of classification is one on a class.
        """
        return binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum") / len(labels)


class ScoreHead(SequenceHead):
    """One number per input."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of logits [B, 1] against scores [B], in fp32."""
        return mse_loss(logits.float().squeeze(-1), labels.float())


class ChoiceHead(SequenceHead):
    """One score per choice; the loss is the cross-entropy of a softmax over the choices of a question [B, S]."""


class RankingHead(SequenceHead):
    """One score per candidate of a query: its logit of being relevant."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the rows of a pointwise and a pairwise term, in fp32.

        Pointwise: binary cross-entropy of each candidate's relevance (in [0, 1]), mean over the row's candidates; it
        teaches where the line between relevant and not lies, also to candidates that stand alone. Pairwise (RankNet,
        Burges et al. 2005): `log(1 + exp(s_j - s_i))`, mean over the row's pairs of which i is more relevant than j;
        rows without such a pair have none.

        Args:
            logits: [B, S] scores of each row's candidates.
            labels: [B, S] their relevance; -100 where a row has no candidate.
        """
        scores, relevance = logits.float(), labels.float()
        real = relevance != IGNORED
        relevance = torch.where(real, relevance, 0.0)
        scores = torch.where(real, scores, 0.0)
        each = binary_cross_entropy_with_logits(scores, relevance, reduction="none")
        pointwise = _masked_mean(each, real, dims=(1,))
        ordered = (relevance[:, :, None] > relevance[:, None, :]) & real[:, :, None] & real[:, None, :]
        pairwise = _masked_mean(softplus(scores[:, None, :] - scores[:, :, None]), ordered, dims=(1, 2))
        return (pointwise + pairwise).mean()


def _masked_mean(values: Tensor, mask: Tensor, *, dims: tuple[int, ...]) -> Tensor:
    """Mean over `dims` where the mask holds; 0 where it holds nowhere."""
    return torch.where(mask, values, 0.0).sum(dims) / mask.sum(dims).clamp(min=1)


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
