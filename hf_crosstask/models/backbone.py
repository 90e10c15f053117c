"""Loading a backbone and its tokenizer: any encoder or decoder that `AutoModel` knows, local files or Hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from hf_crosstask.errors import InputError
from hf_crosstask.models.kernels import resolve_attention
from hf_crosstask.models.quantization import compute_exactly_on_cpu, nf4


@dataclass(frozen=True)
class Source:
    """Where a backbone comes from.

    Attributes:
        name_or_path: Hub id or local folder.
        revision: Hub commit, tag or branch.
        trust_remote_code: run code from the repository; off unless the user says so.
        attention: attention implementation, None for the model's default, `auto` for the fastest there is.
    """

    name_or_path: str
    revision: str | None = None
    trust_remote_code: bool = False
    attention: str | None = None

    def _hub_arguments(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


def is_causal(config: PretrainedConfig) -> bool:
    """Whether a token's state sees only what stands before it: every model without a masked-LM form.

    Raises:
        InputError: the model is an encoder-decoder, for which the library has no heads.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"model type {config.model_type!r} is an encoder-decoder; use an encoder or a decoder")
    return type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def load_config(source: Source) -> PretrainedConfig:
    """The backbone's configuration.

    Raises:
        InputError: nothing loadable is at the place named.
    """
    try:
        return AutoConfig.from_pretrained(source.name_or_path, **source._hub_arguments())
    except (OSError, ValueError) as error:
        raise InputError(_not_loadable(source, error)) from error


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The backbone's fast tokenizer, padding on the right; a missing padding token is filled from unk or eos.

    Raises:
        InputError: there is none, it is not a fast one (character offsets need it), or it has nothing to pad with.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source._hub_arguments())
    except (OSError, ValueError) as error:
        raise InputError(_not_loadable(source, error)) from error
    if not tokenizer.is_fast:
        raise InputError(f"{source.name_or_path} has no fast tokenizer; character offsets need one")
    if tokenizer.pad_token is None:
        substitute = tokenizer.unk_token or tokenizer.eos_token
        if substitute is None:
            raise InputError(
                f"the tokenizer of {source.name_or_path} has no padding, unknown or end token to pad with"
            )
        tokenizer.pad_token = substitute
    tokenizer.padding_side = "right"
    return tokenizer


def load_backbone(
    source: Source,
    config: PretrainedConfig,
    dtype: torch.dtype,
    architecture: Any = AutoModel,
    *,
    quantized_on: torch.device | None = None,
) -> PreTrainedModel:
    """The model body without a head (or another `architecture`), from safetensors only, in `dtype`.

    Args:
        source, config, dtype, architecture: what is loaded, and how.
        quantized_on: load 4-bit linear layers, which compute in `dtype`, to this device.

    Raises:
        InputError: nothing loadable is at the place named.
    """
    if is_causal(config):
        config.use_cache = False
    arguments = source._hub_arguments()
    attention = resolve_attention(source.attention, config, dtype)
    if attention is not None:
        arguments["attn_implementation"] = attention
    if quantized_on is not None:
        arguments |= {"quantization_config": nf4(dtype), "device_map": {"": quantized_on}}
    try:
        model = architecture.from_pretrained(
            source.name_or_path, config=config, dtype=dtype, use_safetensors=True, **arguments
        )
    except (OSError, ValueError) as error:
        raise InputError(_not_loadable(source, error)) from error
    if quantized_on is not None:
        compute_exactly_on_cpu(model)
    return model


def take_pooler(backbone: PreTrainedModel) -> nn.Linear | None:
    """Remove a BERT-style pooler from the backbone and return its dense layer, which heads start from."""
    pooler = getattr(backbone, "pooler", None)
    if pooler is None:
        return None
    backbone.pooler = None
    dense = getattr(pooler, "dense", None)
    return dense if isinstance(dense, nn.Linear) else None


def _not_loadable(source: Source, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"model.name_or_path: cannot load {source.name_or_path!r}: {reason} "
        "(give a Hub id, a local folder with config.json and safetensors weights, or tiny:<family>)"
    )
