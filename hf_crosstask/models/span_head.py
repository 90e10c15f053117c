"""The head for entities of any shape: log odds of links between words (see `hf_crosstask.encoding.links`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, pad

from hf_crosstask.models.heads import IGNORED, TaskHead

_SIZE = 128  # of the two views of a word
_PRIOR = 0.01  # share of cells with a link that a fresh head expects (Lin et al. 2017, arXiv:1708.02002, section 3.3)


class SpanHead(TaskHead):
    """Deep biaffine scores (Dozat and Manning 2017, arXiv:1611.01734) of each word and the words at most `reach` - 1 on.

    A score is the sum of a bilinear form of the two words' states, a linear one, and a number for the distance. Cost
    and memory grow with words x reach.

    Args:
        hidden_size: of the backbone.
        types: entity types; there are `1 + types` links.
        reach: columns of the band.
        dropout: on the states of words, and on their two views.
        std: of the initial weights.
    """

    def __init__(self, hidden_size: int, types: int, reach: int, *, dropout: float, std: float):
        super().__init__()
        links = 1 + types
        self.reach = reach
        self.dropout = nn.Dropout(dropout)
        self.source = nn.Linear(hidden_size, _SIZE)
        self.target = nn.Linear(hidden_size, _SIZE)
        self.source_only = nn.Linear(_SIZE, links, bias=False)
        self.target_only = nn.Linear(_SIZE, links, bias=False)
        self.bilinear = nn.Parameter(torch.empty(links, _SIZE, _SIZE))
        self.distance = nn.Parameter(torch.full((reach, links), _log_odds(_PRIOR)))
        for layer in (self.source, self.target):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        for weight in (self.source_only.weight, self.target_only.weight, self.bilinear):
            nn.init.normal_(weight, std=std)

    def forward(self, hidden: Tensor, attention_mask: Tensor, entity_positions: Tensor | None = None) -> Tensor:
        """Log odds [B, W, reach, 1 + types] from hidden states [B, L, H] and the positions [B, W] of words in them.

        What stands at words of padding, and at cells that reach beyond a row's words, means nothing.
        """
        if entity_positions is None:
            raise ValueError("a span_ner batch needs word_positions [B, W]")
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        words = self.dropout(hidden[rows, entity_positions].to(self.source.weight.dtype))
        source = self.dropout(gelu(self.source(words)))  # [B, W, S]
        target = self.dropout(gelu(self.target(words)))
        band = self._band(target)  # [B, W, S, reach]
        scores = torch.einsum("bws,cst->bwct", source, self.bilinear) @ band + self.source_only(source)[..., None]
        return scores.transpose(2, 3) + self._band(self.target_only(target)).transpose(2, 3) + self.distance

    def _band(self, words: Tensor) -> Tensor:
        """[B, W, S] to [B, W, S, reach]: each word and those that follow it; zeros behind the last."""
        return pad(words, (0, 0, 0, self.reach - 1)).unfold(1, self.reach, 1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy summed over links, mean over supervised cells, times `reach`; in fp32.

        So it is what one word costs, as the loss of a `TokenHead` is, and still a mean over labelled items.

        Args:
            logits: [B, W, reach, 1 + types].
            labels: [B, W, reach] bits; -100 at cells that are not supervised.
        """
        supervised = labels != IGNORED
        bits = labels[..., None] >> torch.arange(logits.shape[-1], device=labels.device) & 1
        each = binary_cross_entropy_with_logits(logits.float(), bits.float(), reduction="none").sum(-1)
        return self.reach * torch.where(supervised, each, 0.0).sum() / supervised.sum().clamp(min=1)


def _log_odds(probability: float) -> float:
    # On the CPU, also where the head is made without weights.
    return float(torch.logit(torch.tensor(probability, device="cpu")))
