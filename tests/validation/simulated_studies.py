"""Is what a study says true? Simulated scores with known truth, no training.

    python tests/validation/simulated_studies.py [--studies 2000] [--replicates 500] [--part coverage|verdicts|exposure|all]

**Coverage.** One task, two arms without a true difference, items as in real test sets: every item is right or wrong by
its own difficulty (shared by all arms and seeds), what the arm makes of it (shared by the arm's seeds), the seed's level,
and chance. The share of 95 % intervals that hold the true difference 0, for the headline, the percentile multi-bootstrap
and the paired t-test over seeds, by number of seeds.

**Verdicts.** Whole studies through `study_verdict`: 4 confirmatory tasks of 200 documents scored by entity F1, three
arms (single, single at equal tokens, multi) with seed levels of one point that tasks partly share. How often "transfer"
is said where there is none (with the upper 95 % bound), family-wise errors, power by effect, equivalence, and whether
gains by exposure alone are called exposure.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hf_crosstask.evaluation import counts as c
from hf_crosstask.evaluation.counts import FloatArray
from hf_crosstask.study.effects import seed_effects
from hf_crosstask.study.multibootstrap import Contrast, cluster_weights, seed_weights
from hf_crosstask.study.parity import TokenParity
from hf_crosstask.study.scored import ScoredRun
from hf_crosstask.study.verdict import Control, StudyVerdict, TaskEvidence, VerdictSettings, study_verdict

SEEDS = (3, 5, 8, 10)


@dataclass(frozen=True)
class Setting:
    """A kind of test set and model: `seed` is in points of accuracy, the others on the scale of item difficulty (1)."""

    name: str
    items: int
    seed: float
    arm_item: float
    chance: float
    document: int = 1


SETTINGS = (
    Setting("500 items, seeds vary by 1 point", 500, 1.0, 0.35, 0.35),
    Setting("500 items, seeds do not vary", 500, 0.0, 0.35, 0.35),
    Setting("500 items, seeds vary by 3 points", 500, 3.0, 0.35, 0.35),
    Setting("3,000 items, seeds vary by 1 point", 3000, 1.0, 0.35, 0.35),
    Setting("100 documents of 10, seeds vary by 1 point", 1000, 1.0, 0.5, 0.35, document=10),
    Setting("500 items, arms differ by item", 500, 0.3, 0.6, 0.1),
    Setting("1,000 items, arms differ by chance alone", 1000, 0.5, 0.0, 0.5),
)


def right_or_wrong(setting: Setting, seeds: int, generator: np.random.Generator) -> FloatArray:
    """Which items are right, `[2 arms, seeds, items]`; the arms' true difference is 0."""
    items, documents = setting.items, setting.items // setting.document
    within = 0.5 if setting.document > 1 else 0.0
    spread = np.sqrt(1.0 + within**2 + setting.arm_item**2 + setting.chance**2)
    per_point = 0.01 * spread / stats.norm.pdf(0.9 / spread)
    difficulty = (
        generator.normal(0, 1, items) + np.repeat(generator.normal(0, 1, documents), setting.document) * within
    )
    found = np.empty((2, seeds, items))
    for arm in found:
        own = generator.normal(0, setting.arm_item, items)
        if setting.document > 1:
            own = (own + np.repeat(generator.normal(0, setting.arm_item, documents), setting.document)) / np.sqrt(2)
        level = 0.9 + generator.normal(0, setting.seed * per_point, (seeds, 1))
        arm[:] = difficulty + own + level + generator.normal(0, setting.chance, (seeds, items)) > 0
    return found


def coverage(studies: int, replicates: int) -> None:
    print(
        f"\n## Coverage of 95 % intervals, {studies:,} studies a row, {replicates:,} replicates; two arms, no difference\n"
    )
    print("| setting | discordant | seeds | headline | width | percentile | width | paired t over seeds | width |")
    print("|---|---|---|---|---|---|---|---|---|")
    everything: dict[int, list[float]] = {seeds: [] for seeds in SEEDS}
    for number, setting in enumerate(SETTINGS):
        generator = np.random.default_rng([number, 20])
        clusters = setting.items // setting.document
        # One set of cluster draws for all studies: draws do not depend on the data.
        drawn = [
            cluster_weights(clusters, 100, np.random.SeedSequence([number, part])) for part in range(replicates // 100)
        ]
        weights = np.concatenate(drawn).astype(np.float64) / setting.items
        seen: dict[tuple[int, str], list[tuple[bool, float]]] = {}
        discordant = 0.0
        for _ in range(studies):
            right = right_or_wrong(setting, max(SEEDS), generator)
            discordant += float((right[0, 0] != right[1, 0]).mean()) / studies
            sums = right.reshape(-1, clusters, setting.document).sum(axis=-1).T
            values = (weights @ sums).reshape(replicates, 2, -1)
            level, resampled = right.mean(axis=-1), values[:, 0] - values[:, 1]
            for seeds in SEEDS:
                contrast = Contrast(
                    tuple(range(seeds)),
                    level[0, :seeds] - level[1, :seeds],
                    resampled[:, :seeds],
                    seed_weights(seeds, replicates, 0),
                    clusters,
                )
                found = contrast.estimate()
                over = seed_effects(level[0, :seeds], level[1, :seeds])
                for kind, low, high in (
                    ("headline", found.low, found.high),
                    ("percentile", found.percentile_low, found.percentile_high),
                    ("t", over.low or 0.0, over.high or 0.0),
                ):
                    seen.setdefault((seeds, kind), []).append((low <= 0 <= high, 100 * (high - low)))
        for seeds in SEEDS:
            cells = []
            for kind in ("headline", "percentile", "t"):
                held, width = np.mean(seen[seeds, kind], axis=0)
                cells.append(f"{held:.3f} | {width:.2f}")
            everything[seeds].append(float(np.mean([held for held, _ in seen[seeds, "headline"]])))
            print(f"| {setting.name} | {discordant:.1%} | {seeds} | {' | '.join(cells)} |", flush=True)
    for seeds, values in everything.items():
        extremes = f"worst {min(values):.3f}, best {max(values):.3f}"
        print(f"headline over all settings, {seeds} seeds: {np.mean(values):.3f} ({extremes})")


@dataclass(frozen=True)
class Truth:
    """True differences of one task in recall (0.95 times that in F1): of exposure and of transfer."""

    exposure: float
    transfer: float


def f1_metric(totals: FloatArray) -> FloatArray:
    return c.f1(c.micro(totals))


def simulated_study(
    truths: Sequence[Truth],
    seeds: int,
    generator: np.random.Generator,
    settings: VerdictSettings,
    documents: int = 200,
) -> StudyVerdict:
    """A study's verdict from simulated counts."""
    names = np.array([f"d{index}" for index in range(documents)])
    shared = generator.normal(0, 0.01 * np.sqrt(0.5), (3, seeds))
    evidence = []
    for number, truth in enumerate(truths):
        levels = 0.75 + np.array([0.0, truth.exposure, truth.exposure + truth.transfer])
        gold = 1 + generator.poisson(5, documents)
        difficulty = generator.normal(0, 0.06, documents)
        runs: list[list[ScoredRun]] = []
        for arm, level in enumerate(levels):
            own = difficulty + generator.normal(0, 0.04, documents)
            of_seed = shared[arm] + generator.normal(0, 0.01 * np.sqrt(0.5), seeds)
            recall = np.clip(level + own + of_seed[:, None], 0.01, 0.99)
            hits = generator.binomial(gold, recall)
            wrong = generator.poisson(0.8 * gold * (1 - recall))
            table = np.stack([hits, wrong, gold - hits, np.zeros_like(hits)], axis=-1)[:, :, None, :].astype(
                np.float64
            )
            arm_name = ("single", "equal tokens", "multi")[arm]
            runs.append(
                [
                    ScoredRun(
                        arm_name,
                        f"t{number}",
                        seed,
                        "entity_f1",
                        table[seed],
                        np.zeros((1, 4)),
                        names,
                        names,
                        f1_metric,
                    )
                    for seed in range(seeds)
                ]
            )
        account = {"reference_planned": 10, "reference_counted": 10, "control_planned": 10, "control_counted": 10}
        evidence.append(
            TaskEvidence(
                task=f"t{number}",
                multi=runs[2],
                single=runs[0],
                controls=[Control("equal tokens", "total_tokens", runs[1])],
                parities=[
                    TokenParity(
                        task=f"t{number}", control="equal tokens", mode="total_tokens", seed=seed, allowed=1, **account
                    )
                    for seed in range(seeds)
                ],
                data_fingerprints={"all runs": "simulated"},
            )
        )
    return study_verdict(evidence, settings)


def upper_bound(hits: int, of: int) -> float:
    """One-sided 95 % Clopper-Pearson bound of a proportion."""
    return 1.0 if hits == of else float(stats.beta.ppf(0.95, hits + 1, of - hits))


def rate(hits: int, of: int) -> str:
    return f"{hits / of:.3f} (≤ {upper_bound(hits, of):.3f})"


def many(
    truths: Sequence[Truth], seeds: int, studies: int, settings: VerdictSettings, stream: int
) -> Iterator[StudyVerdict]:
    for number in range(studies):
        yield simulated_study(truths, seeds, np.random.default_rng([stream, seeds, number]), settings)


def verdicts(studies: int, replicates: int) -> None:
    settings = VerdictSettings(replicates=replicates, margin=0.03)
    nothing = [Truth(0.02, 0.0)] * 4
    print(f"\n## 4 tasks, exposure 2 points, no transfer anywhere: {studies:,} studies a row\n")
    print("(upper 95 % bounds in brackets; a family error is any claim of transfer or negative transfer)\n")
    columns = ["seeds", "studies with a false transfer", "family errors"]
    columns += ["tasks: transfer", "negative", "equivalent", "undecided", "gain called exposure"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for seeds in SEEDS:
        false, errors, tasks, exposed = 0, 0, Counter[str](), 0
        for verdict in many(nothing, seeds, studies, settings, 1):
            found = Counter(each.category for each in verdict.tasks)
            false += found["transfer"] > 0
            errors += found["transfer"] + found["negative_transfer"] > 0
            tasks += found
            exposed += sum(each.gain == "exposure" for each in verdict.tasks)
        cells = [
            f"{tasks[each] / studies / 4:.4f}" for each in ("transfer", "negative_transfer", "equivalent", "undecided")
        ]
        cells = [rate(false, studies), rate(errors, studies), *cells, f"{exposed / studies / 4:.3f}"]
        print(f"| {seeds} | {' | '.join(cells)} |", flush=True)
    print(f"\n## Two tasks with 4 points of transfer, two without: {studies:,} studies\n")
    mixed = [Truth(0.02, 0.04)] * 2 + [Truth(0.02, 0.0)] * 2
    errors, found_both = 0, 0
    for verdict in many(mixed, 5, studies, settings, 2):
        errors += any(each.category in ("transfer", "negative_transfer") for each in verdict.tasks[2:])
        found_both += sum(each.category == "transfer" for each in verdict.tasks[:2])
    print(f"5 seeds: family errors among the true nulls {rate(errors, studies)}; power {found_both / studies / 2:.3f}")
    few = max(100, studies // 10)
    print(
        f"\n## Power by effect, no exposure, {few} studies a cell: tasks called transfer (wrong direction in brackets)\n"
    )
    effects = (0.0, 0.01, 0.02, 0.03, 0.05)
    print(f"| seeds | {' | '.join(f'{100 * effect:g} points' for effect in effects)} |")
    print("|---" * (len(effects) + 1) + "|")
    for seeds in SEEDS:
        cells = []
        for effect in effects:
            found = Counter(
                each.category
                for verdict in many([Truth(0.0, effect)] * 4, seeds, few, settings, 3 + int(1000 * effect))
                for each in verdict.tasks
            )
            cells.append(f"{found['transfer'] / few / 4:.3f} ({found['negative_transfer'] / few / 4:.3f})")
        print(f"| {seeds} | {' | '.join(cells)} |", flush=True)


def exposure(studies: int, replicates: int) -> None:
    settings = VerdictSettings(replicates=replicates, margin=0.03)
    print(f"\n## Exposure of 5 points, no transfer, {studies:,} studies a row: what tasks are called\n")
    print(
        "| seeds | gain: exposure | transfer | negative transfer | equivalent (and exposure) |\n|---|---|---|---|---|"
    )
    for seeds in SEEDS:
        tasks = [each for found in many([Truth(0.05, 0.0)] * 4, seeds, studies, settings, 9) for each in found.tasks]
        shares = [
            np.mean([each.gain == "exposure" for each in tasks]),
            np.mean([each.category == "transfer" for each in tasks]),
            np.mean([each.category == "negative_transfer" for each in tasks]),
            np.mean([each.category == "equivalent" and each.gain == "exposure" for each in tasks]),
        ]
        print(f"| {seeds} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=500, help="of the bootstrap; a multiple of 100")
    parser.add_argument("--part", choices=("coverage", "verdicts", "exposure", "all"), default="all")
    options = parser.parse_args()
    start = time.perf_counter()
    if options.part in ("coverage", "all"):
        coverage(options.studies, options.replicates)
    if options.part in ("verdicts", "all"):
        verdicts(options.studies, options.replicates)
    if options.part in ("exposure", "all"):
        exposure(max(100, options.studies // 10), options.replicates)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
