"""Training throughput on the real task mixture, against `transformers.Trainer` and against the ceiling.

    python tests/benchmarks/training_throughput.py --data-dir ../shared/data          # LoRA, as recipes/blurb_s2.json
    python tests/benchmarks/training_throughput.py --data-dir ../shared/data --full   # everything trains
    python tests/benchmarks/training_throughput.py --recipe recipes/blurb_all_s2.json --max-length 512   # eight tasks

Forward (non-padding) tokens per second of BC2GM + ChemProt + PubMedQA (or another recipe's tasks) on the MiniLM encoder,
CPU, fp32. The arms (see `arms.py`) take turns in one process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch
from arms import TARGETS, Workload, take_turns
from datasets import disable_progress_bars
from meter import columns, markdown
from mixture import RECIPE, add_data_dir, load_real_mixture

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.evaluation.environment import hardware
from hf_crosstask.planning.mixing import Mixing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_dir(parser)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="whose tasks (default: %(default)s)")
    parser.add_argument("--max-length", type=int, help="of inputs, in tokens (default: the recipe's)")
    parser.add_argument("--full", action="store_true", help="train the whole encoder, not a LoRA adapter")
    parser.add_argument(
        "--our-layers-for-peers", action="store_true", help="as `transformers.Trainer` would run in ours"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, help="keep a random part of the mixture (default: all of it)")
    parser.add_argument("--turn-tokens", type=int, default=24576, help="forward tokens of a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each arm (default: %(default)s)")
    parser.add_argument("--tokens-per-step", type=int, default=4096, help="ours and the ceiling (%(default)s)")
    parser.add_argument("--micro-batch-tokens", type=int, default=2048, help="ours and the ceiling (%(default)s)")
    parser.add_argument("--sampling", choices=("proportional", "temperature", "uniform"), default="proportional")
    parser.add_argument("--temperature", type=float, default=1.0, help="of temperature sampling")
    parser.add_argument("--arms", nargs="*", choices=list(TARGETS), default=list(TARGETS), help="besides ours")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mixture = load_real_mixture(options.data_dir, options.recipe, options.max_length)
    disable_progress_bars()
    if options.examples:
        mixture = mixture.part(options.examples, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(
            model=mixture.build_model(full=options.full),
            datasets=mixture.datasets,
            collate=MultiTaskCollator.for_tokenizer(mixture.tokenizer),
            mixing=Mixing(options.sampling, options.temperature),
            tokens_per_step=options.tokens_per_step,
            micro_batch_tokens=min(options.micro_batch_tokens, options.tokens_per_step),
            turn_tokens=options.turn_tokens,
            folder=folder,
            arguments={"use_cpu": True},
            our_layers_for_peers=options.our_layers_for_peers,
        )
        turns = take_turns(work, ["ours", *options.arms], options.rounds)
    mixing = options.sampling + (f" {options.temperature:g}" if options.sampling == "temperature" else "")
    print(
        f"{options.recipe.stem}, {'full fine-tuning' if options.full else 'LoRA'}, {mixing} mixing, "
        f"{options.examples or 'all'} examples, peers with {'our' if options.our_layers_for_peers else 'stock'} layers, "
        f"{work.tokens_per_step} tokens a step, {work.micro_batch_tokens} a micro-batch, {options.turn_tokens} a turn; "
        f"{hardware()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}; {date.today()}\n"
    )
    print(markdown(columns(turns, TARGETS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
