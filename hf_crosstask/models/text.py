"""Heads of tasks that are trained on their text alone, without labels (the text placebo, `encoding.text`).

| head | backbone | predicts |
|---|---|---|
| `NextTokenHead` | decoder | every token but the first, through the language model's own output layer |
| `MaskedTokenHead` | encoder | masked tokens, through a dense layer and the input embeddings, as BERT does |

They have no scores and are not saved: what they leave behind is what their losses did to the shared weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from hf_crosstask.encoding.text import Masking
from hf_crosstask.models.backbone import Source, load_backbone
from hf_crosstask.models.heads import IGNORED, TaskHead
from hf_crosstask.models.language import LanguageHead
from hf_crosstask.models.lists import present_sequences

#: Of the tokens chosen: this share becomes the mask token, this share a random one, the rest stays (Devlin et al. 2019).
TO_MASK, TO_RANDOM = 0.8, 0.1


class NextTokenHead(LanguageHead):
    """The likelihood of a decoder's own input; `labels` are its tokens, -100 on the first, and not shifted."""

    def read(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None,
        completion_mask: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Mean negative log-likelihood of the tokens (None without labels: there is none), and [N, 2] their summed
        log-likelihood and number in each sequence."""
        if labels is None:
            raise ValueError("a text batch needs labels, which say what is predicted")
        if input_ids.dim() == 3:
            present = present_sequences(attention_mask)
            input_ids, attention_mask, labels = input_ids[present], attention_mask[present], labels[present]
        wanted = labels[:, 1:] != IGNORED
        likelihood = torch.zeros(wanted.shape, dtype=torch.float32, device=labels.device)
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
        likelihood[wanted] = -cross_entropy(logits[wanted].float(), labels[:, 1:][wanted], reduction="none")
        return _mean(likelihood, wanted)


class MaskedTokenHead(TaskHead):
    """A dense layer, normalisation, the backbone's input embeddings and a bias over masked tokens.

    Args:
        config: of the encoder.
        masking: of its tokenizer.
        std: of the dense layer's first weights.
    """

    def __init__(self, config: PretrainedConfig, masking: Masking, *, std: float):
        super().__init__()
        width = getattr(config, "embedding_size", None) or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, width)
        nn.init.normal_(self.dense.weight, std=std)
        nn.init.zeros_(self.dense.bias)
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[getattr(config, "hidden_act", None) or "gelu"]
        self.norm = nn.LayerNorm(width, eps=getattr(config, "layer_norm_eps", None) or 1e-12)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.mask = masking.mask
        special = set(masking.special)
        ordinary = [token for token in range(min(masking.vocabulary, config.vocab_size)) if token not in special]
        self.register_buffer("ordinary", torch.tensor(ordinary), persistent=False)
        self.register_buffer("special", torch.tensor(masking.special), persistent=False)
        self.ordinary: Tensor
        self.special: Tensor

    def read(
        self,
        states: Callable[[dict[str, Tensor]], Tensor],
        embeddings: Tensor,
        inputs: dict[str, Tensor],
        labels: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Mean negative log-likelihood of masked tokens, and [N, 2] their summed log-likelihood and number in each
        sequence.

        In training, which tokens are masked and what becomes of them is drawn from torch's CPU generator, the first
        thing in the forward pass: where that is seeded for every micro-batch, as the trainer does, masks depend on the
        seed and the micro-batch's number alone, whatever the device. In evaluation they are those of `labels`.

        Args:
            states: from the backbone's inputs to its final states [N, L, H].
            embeddings: [vocabulary, width] the input embeddings.
            inputs: `input_ids` [N, L] and what goes with them.
            labels: [N, L] the tokens of a first draw, -100 elsewhere; as many are drawn anew.
        """
        if labels is None:
            raise ValueError("a text batch needs labels, which say how many tokens are masked")
        ids = inputs["input_ids"]
        chosen = labels != IGNORED
        if self.training:
            chosen = self.drawn(ids, inputs["attention_mask"], chosen.sum(dim=1))
        hidden = states({**inputs, "input_ids": self.corrupted(ids, chosen)})[chosen]
        hidden = self.norm(self.activation(self.dense(hidden.to(self.dense.weight.dtype))))
        number = embeddings.dtype
        logits = linear(hidden.to(number), embeddings, self.bias[: len(embeddings)].to(number))
        likelihood = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
        likelihood[chosen] = -cross_entropy(logits.float(), ids[chosen], reduction="none")
        return _mean(likelihood, chosen)

    def drawn(self, ids: Tensor, attention_mask: Tensor, numbers: Tensor) -> Tensor:
        """[N, L] `numbers` [N] tokens of each sequence, all ordinary ones, drawn at random."""
        order = torch.rand(ids.shape).to(ids.device)
        order = order.masked_fill((attention_mask == 0) | torch.isin(ids, self.special), -1.0)
        rank = order.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return rank < numbers[:, None]

    def corrupted(self, ids: Tensor, chosen: Tensor) -> Tensor:
        """The ids with the chosen tokens masked; in training a tenth of them is replaced, and a tenth left, instead."""
        if not self.training:
            return ids.masked_fill(chosen, self.mask)
        fate = torch.rand(ids.shape).to(ids.device)
        others = self.ordinary[torch.randint(len(self.ordinary), ids.shape).to(ids.device)]
        masked = ids.masked_fill(chosen & (fate < TO_MASK), self.mask)
        return torch.where(chosen & (fate >= 1 - TO_RANDOM), others, masked)

    @torch.no_grad()
    def start_from(self, layers: PretrainedLayers) -> None:
        """Start from a checkpoint's own masked-LM head."""
        dense, norm, bias = layers
        self.dense.load_state_dict(dense.state_dict())
        self.norm.load_state_dict(norm.state_dict())
        self.bias[: len(bias)].copy_(bias[: len(self.bias)])


#: Dense layer, normalisation and output bias of a masked-LM head.
PretrainedLayers = tuple[nn.Linear, nn.LayerNorm, Tensor]


def is_text(head: nn.Module) -> bool:
    """Whether a head is trained on text alone: it has no scores, and is not saved."""
    return isinstance(head, (NextTokenHead, MaskedTokenHead))


def pretrained_layers(source: Source, config: PretrainedConfig) -> PretrainedLayers | None:
    """The masked-LM head of an encoder's checkpoint; None where it has none, or one of another form.

    Whatever the architecture calls them: besides the body, one dense layer with a bias as wide as the embeddings, one
    normalisation, and an output layer with a bias.
    """
    factory = MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None)
    kinds = factory if isinstance(factory, tuple) else (factory,)
    if not {kind.__name__ for kind in kinds if kind is not None} & set(getattr(config, "architectures", None) or ()):
        return None
    model = load_backbone(source, config, torch.float32, AutoModelForMaskedLM)
    output: Any = model.get_output_embeddings()
    body = {id(module) for module in model.base_model.modules()}
    parts = [module for module in model.modules() if id(module) not in body and module is not output]
    dense = [part for part in parts if isinstance(part, nn.Linear)]
    norms = [part for part in parts if isinstance(part, nn.LayerNorm)]
    width = getattr(config, "embedding_size", None) or config.hidden_size
    if len(dense) != 1 or len(norms) != 1 or getattr(output, "bias", None) is None:
        return None
    complete = dense[0].bias is not None and norms[0].bias is not None
    if not complete or dense[0].weight.shape != (width, config.hidden_size) or norms[0].weight.shape != (width,):
        return None
    return dense[0], norms[0], output.bias.detach()


def _mean(likelihood: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean negative log-likelihood (0 where nothing is wanted), and [N, 2] its sum and the number in each sequence."""
    numbers = wanted.sum(dim=1)
    each = torch.stack([likelihood.sum(dim=1), numbers.float()], dim=1)
    return -likelihood.sum() / numbers.sum().clamp(min=1), each
