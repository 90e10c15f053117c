"""Rows that hold several sequences (the choices of a question, the candidates of a query), and the model between them.

A backbone sees sequences [N, L]; such rows come as [B, S, L], where a row with fewer sequences than another is filled
up with sequences that are all padding. Those are left out before the backbone (attention over nothing is NaN in some
implementations) and put back behind the head, as scores that no softmax ever chooses.
"""

from __future__ import annotations

import torch
from torch import Tensor


def present_sequences(attention_mask: Tensor) -> Tensor:
    """[B, S] whether each sequence of an attention mask [B, S, L] holds a token."""
    return attention_mask.any(dim=-1)


def scores_by_row(scores: Tensor, present: Tensor) -> Tensor:
    """Scores [N, 1] of the present sequences as [B, S]; the lowest number of their type where there is no sequence."""
    lowest = torch.full(present.shape, torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device)
    return lowest.masked_scatter(present, scores.flatten())
