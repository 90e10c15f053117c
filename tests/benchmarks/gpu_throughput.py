"""Training throughput of a Phi-3-mini-size model on one GPU: tokens/s, share of the GPU's peak, peak memory.

    python tests/benchmarks/gpu_throughput.py                  # a few minutes on an H100
    python tests/benchmarks/gpu_throughput.py --toy            # a few seconds on a CPU: does it run?

Phi-3-mini's dimensions with random weights in bf16, LoRA r16 on every linear layer, a head for each of three tasks.
Token ids are random and lengths are drawn from those of BC2GM + ChemProt + PubMedQA (`mixture_lengths.json`, counted
under the MiniLM tokenizer; Phi-3's makes somewhat more tokens of the same texts), so nothing is downloaded and no
corpora are needed. The arms (see `arms.py`) take turns in one process.

Operations of a token, forward and backward, no activation recomputed:

    4 x frozen weights in linear layers   2 forward, 2 for the gradient of activations
    6 x weights that train                2 more for their own gradient
    6 x layers x hidden size x L          attention scores and values over the L tokens of its row, of which a causal
                                          model needs half on average; embedding lookup, norms and softmax left out

Share of peak = forward tokens/s x operations / the GPU's dense bf16 peak: padding counts as waste, not as work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import date

import numpy as np
import torch
from arms import TARGETS, Workload, take_turns
from datasets import Dataset, disable_progress_bars
from meter import columns, markdown
from mixture import Ints, drawn_lengths
from torch import nn
from transformers import AutoModel, Phi3Config

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.encoding.tags import ner_tags
from hf_crosstask.evaluation.environment import hardware
from hf_crosstask.models.adapters import LoraSettings, add_lora
from hf_crosstask.models.build import build_head
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.planning.mixing import Mixing
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.registry import resolve_card

#: Dense bf16 peak, in FLOP/s, of what torch calls the GPU (NVIDIA's data sheets, without sparsity).
PEAKS = {"H100 80GB HBM3": 989e12, "H200": 989e12, "H100 PCIe": 756e12, "A100": 312e12, "L4": 121e12}
_PADDING_ID = 32000


def phi3_mini(layers: int, *, toy: bool) -> Phi3Config:
    """Phi-3-mini-4k's configuration, with fewer layers or as a toy."""
    sizes = {"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 32}
    if toy:
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
    return Phi3Config(
        vocab_size=32064,
        num_hidden_layers=layers,
        max_position_embeddings=4096,
        sliding_window=2047,
        rms_norm_eps=1e-5,
        pad_token_id=_PADDING_ID,
        bos_token_id=1,
        eos_token_id=32000,
        use_cache=False,
        **sizes,
    )


def build(config: Phi3Config, cards: Mapping[str, TaskCard], device: torch.device) -> MultiTaskModel:
    """The model with random weights, made on its device; frozen weights in bf16 on a GPU, as `precision: auto` has it."""
    torch.manual_seed(0)
    with device:
        frozen = torch.bfloat16 if device.type == "cuda" else torch.float32
        backbone = add_lora(AutoModel.from_config(config, dtype=frozen), LoraSettings())
        return MultiTaskModel(backbone, {task: build_head(card, config) for task, card in cards.items()})


def synthetic_rows(lengths: Ints, card: TaskCard, vocabulary: int, seed: int) -> Dataset:
    """Random rows of one task, in the columns that its encoder makes."""
    generator = np.random.default_rng(seed)
    rows = {
        "input_ids": [generator.integers(3, vocabulary, size).tolist() for size in lengths],
        "attention_mask": [[1] * int(size) for size in lengths],
    }
    if card.type == "ner":
        tags = len(ner_tags(card.labels))
        return Dataset.from_dict({**rows, "labels": [generator.integers(0, tags, size).tolist() for size in lengths]})
    rows["labels"] = generator.integers(0, len(card.labels), len(lengths)).tolist()
    if card.type == "relation":
        rows["entity_positions"] = [[0, int(size) - 1] for size in lengths]
    return Dataset.from_dict(rows)


def operations_per_token(model: MultiTaskModel, config: Phi3Config, lengths: Ints) -> float:
    """Operations of a forward token, forward and backward: the formula above, L averaged over tokens."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    weights = [each for each in model.backbone.parameters() if id(each) not in embeddings and each.dim() > 1]
    frozen = sum(each.numel() for each in weights if not each.requires_grad)
    trained = sum(each.numel() for each in weights if each.requires_grad)
    mean_length = float((lengths.astype(np.float64) ** 2).sum() / lengths.sum())
    return 4 * frozen + 6 * trained + 6 * config.num_hidden_layers * config.hidden_size * mean_length


def peak_of(name: str) -> float | None:
    """The dense bf16 peak of a GPU, None for one not listed."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def measured_matmul(device: torch.device) -> float:
    """FLOP/s of one large bf16 matrix product: what this GPU gives in practice."""
    size = 8192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        left @ right
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="2 layers of width 64 and small turns, also for a CPU")
    parser.add_argument("--layers", type=int, help="default: Phi-3-mini's 32")
    parser.add_argument("--examples", type=int, default=20000, help="of the mixture (default: %(default)s)")
    parser.add_argument("--tokens-per-step", type=int, default=16384, help="as in recipes/s2_phi3.json (%(default)s)")
    parser.add_argument("--micro-batch-tokens", type=int, default=4096, help="likewise (%(default)s)")
    parser.add_argument("--turn-tokens", type=int, help="forward tokens of a turn (default: 8 steps)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each arm (default: %(default)s)")
    parser.add_argument("--arms", nargs="*", choices=list(TARGETS), default=list(TARGETS), help="besides ours")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak of a GPU this script does not know")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.toy:
        print("skipped: there is no GPU (try --toy)", file=sys.stderr)
        return 0
    disable_progress_bars()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = phi3_mini(options.layers or (2 if options.toy else 32), toy=options.toy)
    by_task = drawn_lengths(200 if options.toy else options.examples, seed=0)
    cards = {task: resolve_card(TaskSpec(name=task)) for task in by_task}
    model = build(config, cards, device)
    per_token = operations_per_token(model, config, np.concatenate(list(by_task.values())))
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(
            model=model,
            datasets={
                task: synthetic_rows(lengths, cards[task], _PADDING_ID, seed)
                for seed, (task, lengths) in enumerate(by_task.items())
            },
            collate=MultiTaskCollator(_PADDING_ID),
            mixing=Mixing(),
            tokens_per_step=2048 if options.toy else options.tokens_per_step,
            micro_batch_tokens=1024 if options.toy else options.micro_batch_tokens,
            turn_tokens=4096 if options.toy else options.turn_tokens or 8 * options.tokens_per_step,
            folder=folder,
            arguments={"bf16": True} if device.type == "cuda" else {"use_cpu": True},
        )
        turns = take_turns(work, ["ours", *options.arms], options.rounds)
    counts = model.parameter_counts()
    print(
        f"{config.num_hidden_layers} layers of width {config.hidden_size}, {counts['total'] / 1e9:.2f} billion weights, "
        f"{counts['trainable'] / 1e6:.1f} million train, {per_token / 1e9:.2f} GFLOP a token; "
        f"{work.tokens_per_step} tokens a step, {work.micro_batch_tokens} a micro-batch, {work.turn_tokens} a turn; "
        f"{hardware()}; torch {torch.__version__}; {date.today()}"
    )
    table = columns(turns, TARGETS)
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        practice = measured_matmul(device)
        peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_of(name)
        print(f"{name}: one 8192 x 8192 x 8192 bf16 product runs at {practice / 1e12:.0f} TFLOP/s", end="")
        print(f"; peak {peak / 1e12:.0f} TFLOP/s" if peak else "; peak unknown (--peak-tflops)")
        del table["tokens/CPU s"], table["by CPU time"]
        for column, reference in (("share of peak", peak), ("of the product's rate", practice)):
            if reference:
                table[column] = {
                    arm: f"{statistics.median(turn.tokens_per_second for turn in mine) * per_token / reference:.1%}"
                    for arm, mine in turns.items()
                }
        table["peak memory, GiB"] = {
            arm: f"{max(turn.peak_bytes for turn in mine) / 2**30:.1f}" for arm, mine in turns.items()
        }
    print()
    print(markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
