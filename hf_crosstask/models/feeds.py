"""S3b's feeds: level-1 tasks (entities) feed level-2 tasks (relations, answers) of the same input.

A level-2 task runs the backbone twice: first with the shared and the level-1 adapter, as an entity task would, then with
the shared and the level-2 adapter. A feed carries what the first pass found to the second:

| feed | what level 2 gets | where |
|---|---|---|
| `attention` | cross-attention from its states to the level-1 states | added to its final states |
| `shortcut` | level-1 states and the label posteriors of the level-1 NER heads | added to its input embeddings |

`shortcut` is HMTL's (Sanh et al. 2019: every upper encoder reads the base embeddings concatenated with the outputs of the
lower ones). A linear layer on a concatenation is a sum of linear layers; the one on the embeddings is the identity here,
which a pretrained backbone needs. Posteriors are functions of the states: a level-2 loss reaches the states through them
(unless detached), never the NER heads' own weights.

The last layer of a feed starts at zero, so training starts where S2 does. Both feeds add to token t what level 1 knows at
tokens that t may see: in a decoder none after t.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import PretrainedConfig

from hf_crosstask.models.heads import TaskHead, TokenHead
from hf_crosstask.models.hierarchy import FeedSettings

#: Feeds are as narrow as adapters are: this many dimensions at most between their layers.
_WIDTH = 256
_HEAD_DIM = 64


class Feed(nn.Module):
    """What level 1 adds to level 2: to its input embeddings or to its final states; nothing by default."""

    def embeddings(self, lower: Tensor, heads: Sequence[TaskHead]) -> Tensor | None:
        """What is added to the input embeddings [N, L, H] of the second pass.

        Args:
            lower: [N, L, H] level-1 states.
            heads: the heads of the level-1 tasks, in a fixed order.
        """
        return None

    def states(self, upper: Tensor, lower: Tensor, attention_mask: Tensor) -> Tensor:
        """The final states [N, L, H] of the second pass, fed.

        Args:
            upper: [N, L, H] level-2 states.
            lower: [N, L, H] level-1 states.
            attention_mask: [N, L] 1 on real tokens.
        """
        return upper


class CrossLevelAttention(Feed):
    """Each token attends to the level-1 states of the tokens it may see; the answer is added to its own state."""

    def __init__(self, hidden_size: int, *, causal: bool, std: float):
        super().__init__()
        width = min(_WIDTH, hidden_size)
        self.causal = causal
        self.num_heads = width // _HEAD_DIM if width % _HEAD_DIM == 0 else 1
        self.upper_norm, self.lower_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, width)
        self.key = nn.Linear(hidden_size, width)
        self.value = nn.Linear(hidden_size, width)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.output = _zero_linear(width, hidden_size)

    def states(self, upper: Tensor, lower: Tensor, attention_mask: Tensor) -> Tensor:
        dtype = self.output.weight.dtype
        upper = upper.to(dtype)
        lower = self.lower_norm(lower.to(dtype))
        query = self._split(self.query(self.upper_norm(upper)))
        visible = attention_mask.bool()[:, None, None, :]
        if self.causal:
            length = attention_mask.shape[1]
            visible = visible & torch.ones(length, length, dtype=torch.bool, device=upper.device).tril()
        found = scaled_dot_product_attention(
            query, self._split(self.key(lower)), self._split(self.value(lower)), attn_mask=visible
        )
        return upper + self.output(found.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        """[N, L, W] to [N, heads, L, W / heads]."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class Shortcut(Feed):
    """Level-1 states and label posteriors, through a narrow linear layer, on top of the input embeddings."""

    def __init__(self, hidden_size: int, posteriors: int, *, std: float):
        super().__init__()
        width = min(_WIDTH, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.inner = nn.Linear(hidden_size + posteriors, width)
        nn.init.normal_(self.inner.weight, std=std)
        nn.init.zeros_(self.inner.bias)
        self.output = _zero_linear(width, hidden_size)

    def embeddings(self, lower: Tensor, heads: Sequence[TaskHead]) -> Tensor:
        lower = lower.to(self.output.weight.dtype)
        found = [self.norm(lower), *(_posteriors(head, lower) for head in heads if isinstance(head, TokenHead))]
        return self.output(self.inner(torch.cat(found, dim=-1)))


def build_feed(
    settings: FeedSettings, config: PretrainedConfig, heads: Sequence[TaskHead], *, causal: bool
) -> CrossLevelAttention | Shortcut:
    """A feed, freshly initialised.

    Args:
        settings: which.
        config: the backbone's configuration.
        heads: the heads of the level-1 tasks.
        causal: tokens see only what stands before them.
    """
    std = getattr(config, "initializer_range", 0.02)
    if settings.kind == "attention":
        return CrossLevelAttention(config.hidden_size, causal=causal, std=std)
    labels = sum(head.output.out_features for head in heads if isinstance(head, TokenHead))
    return Shortcut(config.hidden_size, labels, std=std)


def _posteriors(head: TokenHead, states: Tensor) -> Tensor:
    """[N, L, tags] in fp32; the head's weights are constants here, and without its dropout."""
    layer = head.output
    return (
        linear(states, layer.weight.detach(), None if layer.bias is None else layer.bias.detach()).float().softmax(-1)
    )


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
