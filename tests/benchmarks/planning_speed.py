"""How long planning takes: 100,000 examples, 10 epochs.

    python tests/benchmarks/planning_speed.py

Lengths are drawn from those of BC2GM + ChemProt + PubMedQA (`mixture_lengths.json`), so no corpora are needed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from datetime import date

from mixture import drawn_lengths

from hf_crosstask.evaluation.environment import hardware
from hf_crosstask.planning import Budget, Mixing, TrainingPlan, plan

#: Of issue 2, Show 7: seconds.
TARGET = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100_000, help="of all three tasks (default: %(default)s)")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--micro-batch-tokens", type=int, help="default: the tokens of a step")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    lengths = drawn_lengths(options.examples, seed=0)
    tokens = sum(int(each.sum()) for each in lengths.values())
    cases = {
        "epochs, proportional": (Budget(epochs=options.epochs), Mixing()),
        "tokens, temperature 2": (Budget(tokens=round(options.epochs * tokens)), Mixing("temperature", 2.0)),
        "steps, uniform": (Budget(steps=round(options.epochs * tokens / options.tokens_per_step)), Mixing("uniform")),
    }
    print(f"{options.examples:,} examples x {options.epochs:g} epochs; {hardware()}; {date.today()}\n")
    print(
        "| budget, mixing | plan, s | with all counts and the fingerprint, s | steps | micro-batches | visits | target |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, (budget, mixing) in cases.items():
        planning, complete = [], []
        for seed in range(options.rounds):
            start = time.perf_counter()
            made = plan(
                lengths,
                budget=budget,
                mixing=mixing,
                tokens_per_step=options.tokens_per_step,
                micro_batch_tokens=options.micro_batch_tokens,
                seed=seed,
            )
            planning.append(time.perf_counter() - start)
            _everything(made)
            complete.append(time.perf_counter() - start)
        print(
            f"| {name} | {statistics.median(planning):.2f} | {statistics.median(complete):.2f} | {made.num_steps:,} "
            f"| {made.num_micro_batches:,} | {len(made.examples):,} | {TARGET:g} s |"
        )
    return 0


def _everything(made: TrainingPlan) -> None:
    """What a run computes of a plan before its first step."""
    made.summary()
    _ = made.epoch_ends


if __name__ == "__main__":
    sys.exit(main())
