"""Tasks posed to the language model itself: heads without parameters that read its token probabilities.

| head | loss | output |
|---|---|---|
| `CompletionHead` (generative) | mean negative log-likelihood of the answers' tokens | [B, 2] log-likelihood, tokens |
| `LikelihoodHead` (choices) | cross-entropy of a softmax over the choices' scores | [B, S] score of each choice |

The score of a choice is the mean log-likelihood of its tokens after the prompt: long choices have no disadvantage. The
softmax over these scores is what is trained, so that the right choice becomes likelier than the others (training on the
right choice alone would not teach the difference), and a row of choices is one decision, as with a head.

The probabilities of the whole vocabulary are large and never leave here: `generate` gives answers, the output what
perplexity needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from hf_crosstask.errors import InputError
from hf_crosstask.models.backbone import Source, is_causal, load_backbone
from hf_crosstask.models.heads import IGNORED, TaskHead
from hf_crosstask.models.lists import present_sequences, scores_by_row
from hf_crosstask.tasks.card import Formulation, TaskCard


def load_language_model(
    source: Source,
    config: PretrainedConfig,
    dtype: torch.dtype,
    *,
    trains: bool,
    quantized_on: torch.device | None = None,
) -> PreTrainedModel:
    """A causal language model; its `base_model` is the backbone.

    Args:
        source, config, dtype, quantized_on: as of `load_backbone`.
        trains: its output layer trains too.

    Raises:
        InputError: the model is an encoder, cannot be loaded, or has weights besides body and output layer.
    """
    if not is_causal(config):
        raise InputError(
            f"generative and likelihood tasks need a decoder, and {source.name_or_path} ({config.model_type}) is none"
        )
    model = load_backbone(source, config, dtype, AutoModelForCausalLM, quantized_on=quantized_on)
    output = model.get_output_embeddings()
    known = {id(parameter) for part in (model.base_model, output) for parameter in part.parameters()}
    others = [name for name, parameter in model.named_parameters() if id(parameter) not in known]
    if others or model.base_model is model:
        raise InputError(f"{source.name_or_path}: a language model of a body and an output layer is needed: {others}")
    if not trains:
        output.requires_grad_(False)
    return model


def answer_log_likelihood(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, answer: Tensor
) -> tuple[Tensor, Tensor]:
    """Summed log-likelihood [B] of the answers' tokens, each given all before it, in fp32, and their number [B].

    Args:
        model: the language model.
        input_ids, attention_mask: [B, L], padded on the right.
        answer: [B, L] whether a token belongs to the answer; the first token of a row never does.
    """
    columns = answer.any(dim=0).nonzero().flatten()
    first, last = int(columns[0]), int(columns[-1])
    # Only positions that predict some row's answer need probabilities.
    positions = torch.arange(first - 1, last, device=input_ids.device)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits = model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=positions).logits
    else:
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, positions]
    wanted, targets = answer[:, first : last + 1], input_ids[:, first : last + 1]
    likelihood = torch.zeros(wanted.shape, dtype=torch.float32, device=input_ids.device)
    likelihood[wanted] = -cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")
    return likelihood.sum(dim=1), wanted.sum(dim=1)


class LanguageHead(TaskHead):
    """Reads a language model's token probabilities instead of hidden states."""

    def read(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None,
        completion_mask: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Loss (None without labels) and output of a batch."""
        raise NotImplementedError  # abstract


class CompletionHead(LanguageHead):
    """The likelihood of answers; `labels` [B, L] are the answers' tokens, -100 elsewhere, and not shifted."""

    def read(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None,
        completion_mask: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        if labels is None:
            raise ValueError(
                "a generative batch needs labels, which say what the answer is; use generate for a new one"
            )
        likelihood, tokens = answer_log_likelihood(model, input_ids, attention_mask, labels != IGNORED)
        return -likelihood.sum() / tokens.sum(), torch.stack([likelihood, tokens.float()], dim=1)


class LikelihoodHead(LanguageHead):
    """The likelihood of each choice; batches [B, S, L], `completion_mask` 1 on the choices, `labels` [B] the right one."""

    def read(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None,
        completion_mask: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        if completion_mask is None:
            raise ValueError("a batch of choices needs completion_mask [B, S, L]")
        present = present_sequences(attention_mask)
        likelihood, tokens = answer_log_likelihood(
            model, input_ids[present], attention_mask[present], completion_mask[present] == 1
        )
        scores = scores_by_row((likelihood / tokens)[:, None], present)
        return None if labels is None else self.loss(scores, labels), scores


_HEADS: Mapping[Formulation, Any] = {"generative": CompletionHead, "likelihood": LikelihoodHead}


def language_head(card: TaskCard) -> LanguageHead:
    """The head of a task that is posed to the language model."""
    head: LanguageHead = _HEADS[card.formulation]()
    return head
