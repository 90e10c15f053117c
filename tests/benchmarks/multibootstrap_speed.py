"""How long the multi-bootstrap takes: 10,000 replicates of entity F1 over 5,000 sentences x 5 seeds x 2 arms.

    OMP_NUM_THREADS=2 python tests/benchmarks/multibootstrap_speed.py

Beside it, the naive loop: resample sentences and call seqeval for each seed and arm, timed on a few replicates and
extrapolated (the table says so). Both score the same invented tag sequences, and must agree on the drawn sentences.
Counting entities, which the first needs once for a run, is timed apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from datetime import date

import numpy as np
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities

from hf_crosstask.evaluation.entities import Entity
from hf_crosstask.evaluation.environment import hardware
from hf_crosstask.evaluation.predictions import Predictions, Target
from hf_crosstask.study.multibootstrap import multibootstrap
from hf_crosstask.study.scored import ScoredRun, scored_run

#: Of issue 5, Show 2: seconds.
TARGET = 2.0
TYPES = ("Gene", "Drug")

Tags = list[list[str]]


def gold_tags(sentences: int, generator: np.random.Generator) -> Tags:
    """Sentences of 25 words, about one entity of one to three words in each."""
    rows = []
    for _ in range(sentences):
        row = ["O"] * 25
        for start in generator.choice(8, size=generator.poisson(1.2) % 8, replace=False) * 3:
            kind, length = TYPES[generator.integers(2)], int(generator.integers(1, 3))
            row[start : start + length] = [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
        rows.append(row)
    return rows


def noisy(gold: Tags, generator: np.random.Generator) -> Tags:
    """The gold with every fiftieth tag replaced."""
    tags = ["O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")]
    rows = [list(row) for row in gold]
    for row in rows:
        for place in np.flatnonzero(generator.random(len(row)) < 0.02):
            row[place] = tags[generator.integers(len(tags))]
    return rows


def entities(rows: Tags) -> tuple[tuple[Entity, ...], ...]:
    return tuple(tuple(Entity(kind, ((a, b + 1),)) for kind, a, b in get_entities(row)) for row in rows)


def scored(gold: Tags, predicted: Tags, arm: str, seed: int) -> ScoredRun:
    names = tuple(f"s{index:05}" for index in range(len(gold)))
    found = entities(predicted)
    predictions = Predictions(
        Target("speed", "ner", TYPES), names, names, entities(gold), found, tuple((None,) * len(row) for row in found)
    )
    return scored_run(predictions, arm=arm, seed=seed, metric="entity_f1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument(
        "--rounds", type=int, default=5, help="timed runs of the vectorised form (default: %(default)s)"
    )
    parser.add_argument(
        "--naive", type=int, default=3, help="timed replicates of the naive loop (default: %(default)s)"
    )
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    gold = gold_tags(options.sentences, generator)
    predicted = {arm: [noisy(gold, generator) for _ in range(options.seeds)] for arm in ("multi", "single")}
    start = time.perf_counter()
    runs = {arm: [scored(gold, tags, arm, seed) for seed, tags in enumerate(each)] for arm, each in predicted.items()}
    counting = time.perf_counter() - start
    seconds, processor = [], []
    for round_ in range(options.rounds):
        start, used = time.perf_counter(), time.process_time()
        found = multibootstrap(runs, replicates=options.replicates, seed=round_)
        estimate = found.contrast("multi", "single").estimate()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    naive, worst = [], 0.0
    for _ in range(options.naive):
        drawn = generator.integers(0, options.sentences, options.sentences)
        start = time.perf_counter()
        slow = [
            f1_score([gold[i] for i in drawn], [tags[i] for i in drawn])
            for each in predicted.values()
            for tags in each
        ]
        naive.append(time.perf_counter() - start)
        fast = [
            float(run.metric(run.statistics[drawn].sum(axis=0) + run.constant))
            for each in runs.values()
            for run in each
        ]
        worst = max(worst, float(np.abs(np.array(slow) - fast).max()))
    each = statistics.median(naive)
    print(
        f"{options.replicates:,} replicates, {options.sentences:,} sentences x {options.seeds} seeds x 2 arms; "
        f"{hardware()}; {date.today()}\n"
    )
    print("| way | seconds | how |\n|---|---|---|")
    print(
        f"| multi-bootstrap from counts | {statistics.median(seconds):.2f} (slowest {max(seconds):.2f}; target "
        f"{TARGET:g}); of one processor {statistics.median(processor):.2f} | median of {options.rounds} runs |"
    )
    print(f"| … counting entities, once | {counting:.2f} | one run |")
    print(
        f"| naive loop over seqeval | {each * options.replicates:,.0f} ({each * options.replicates / 3600:.1f} h) | "
        f"extrapolated from {options.naive} replicates of {each:.1f} s |"
    )
    print(f"\nlargest difference of F1 on the same draws: {worst:.1e}; {estimate.low:.4f} to {estimate.high:.4f}")
    return 0 if statistics.median(seconds) < TARGET and worst < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
