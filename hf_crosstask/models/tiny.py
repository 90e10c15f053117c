"""Built-in tiny models, `tiny:<family>`: the architectures of the study with two layers and random weights.

They need no download: a recipe runs at toy size by naming one as its model. A tiny model is an ordinary local folder
(config.json, model.safetensors, tokenizer files) that plain transformers loads.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_crosstask.atomic import file_sha256, json_fingerprint, write_json
from hf_crosstask.errors import InputError, unknown_name
from hf_crosstask.models.tiny_tokenizer import MAX_LENGTH, SPECIAL_TOKENS, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

PREFIX = "tiny:"
FAMILIES: tuple[str, ...] = tuple(SPECIAL_TOKENS)
_ENCODERS = ("bert", "roberta")
_MANIFEST = "tiny_model.json"
#: Part of every fingerprint: raise it when the same arguments give another model.
_VERSION = 1

_KEY_VALUE_HEADS = 2
#: Configuration of every family. The weights start small, so that what training adds to an embedding soon outweighs its
#: random start: with 0.05 the synthetic tasks transfer visibly less.
_CONFIG: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "initializer_range": 0.02,
}


def is_tiny(name: str) -> bool:
    """Whether a model name asks for a built-in tiny model (its family may still be unknown)."""
    return name.startswith(PREFIX)


def family_of(name: str) -> str:
    """The family of a `tiny:<family>` name.

    Raises:
        InputError: the family is unknown.
    """
    family = name.removeprefix(PREFIX)
    if not is_tiny(name) or family not in FAMILIES:
        raise InputError(unknown_name("tiny model", name, (PREFIX + known for known in FAMILIES)))
    return family


def build_tiny(name: str, texts: Iterable[str], folder: Path, *, seed: int = 0) -> Path:
    """Make a tiny model, or find it where it was made before.

    The model is a function of the arguments and of the versions of torch, transformers and tokenizers; the state of
    the global random number generators is neither used nor changed.

    Args:
        name: `tiny:<family>`.
        texts: what its tokenizer is trained on; the order does not matter. Runs that are compared must pass the same
            texts: another tokenizer is another model and counts other tokens.
        folder: where tiny models live. Each gets a sub-folder named for its family and fingerprint.
        seed: of the random weights.

    Returns:
        the model's folder, complete. Processes that build it at the same time get the same one.

    Raises:
        InputError: the family is unknown, or `texts` hold no text.
    """
    family = family_of(name)
    ordered = sorted(texts)
    if not any(text.strip() for text in ordered):
        raise InputError(f"{name}: a tiny model trains its tokenizer on the texts of the tasks, and there are none")
    fingerprint = _fingerprint(family, ordered, seed)
    path = folder / f"tiny-{family}-{fingerprint[:16]}"
    if _is_complete(path, fingerprint):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{path.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        _write_model(family, ordered, temporary, seed)
        files = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / _MANIFEST, {"fingerprint": fingerprint, "files": files})
        if path.exists() and not _is_complete(path, fingerprint):
            shutil.rmtree(path)
        try:
            temporary.rename(path)
        except OSError:
            if not _is_complete(path, fingerprint):  # else another process was first, with the same model
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _fingerprint(family: str, texts: Sequence[str], seed: int) -> str:
    import tokenizers
    import torch
    import transformers

    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    versions = [_VERSION, str(torch.__version__), transformers.__version__, tokenizers.__version__]
    return json_fingerprint(
        {"family": family, "seed": seed, "versions": versions, "config": _CONFIG, "texts": digest.hexdigest()}
    )


def _is_complete(path: Path, fingerprint: str) -> bool:
    """Whether a folder holds the whole model: the rename is atomic, but files can be lost or cut afterwards."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        return manifest["fingerprint"] == fingerprint and all(
            file_sha256(path / name) == digest for name, digest in manifest["files"].items()
        )
    except (FileNotFoundError, ValueError, KeyError):  # missing, not JSON, or of another layout
        return False


def _write_model(family: str, texts: Sequence[str], folder: Path, seed: int) -> None:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    tokenizer = train_tokenizer(family, texts)
    tokenizer.save_pretrained(folder)
    config = _config(family, tokenizer)
    architecture = AutoModel if family in _ENCODERS else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        model = architecture.from_config(config, dtype=torch.float32)
    with _no_progress_bar():
        model.save_pretrained(folder)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers shows one for every save, however small."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def _config(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The family's own configuration class with tiny dimensions and this tokenizer's ids."""
    from transformers import AutoConfig

    fields: dict[str, Any] = {
        **_CONFIG,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_LENGTH,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if family not in _ENCODERS:
        # Phi-3-mini is the one of the study without grouped key-value heads
        fields["num_key_value_heads"] = fields["num_attention_heads"] if family == "phi3" else _KEY_VALUE_HEADS
    if family == "roberta":
        fields["type_vocab_size"] = 1
        fields["max_position_embeddings"] = MAX_LENGTH + tokenizer.pad_token_id + 1  # positions start after the pad id
    elif family == "phi3":
        fields["original_max_position_embeddings"] = MAX_LENGTH
    elif family == "gemma2":
        head_dim = fields["hidden_size"] // fields["num_attention_heads"]
        fields |= {"head_dim": head_dim, "query_pre_attn_scalar": head_dim}
    return AutoConfig.for_model(family, **fields)
