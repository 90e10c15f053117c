"""Is what a study says true of real training? Small studies with planted truth, every run trained in this process.

    python tests/validation/trained_studies.py [--studies 40] [--workers 2] [--minutes 45] [--cache DIR] [--plot FILE.png]

A study trains a target task (NER over invented words) and an auxiliary task together (S2), the target alone (S1), and
the target alone on exactly the tokens of S2 (S1_token_controlled), with 5 seeds, by the library's own preparation,
plans, trainers, scorers and verdict. Every study has its own data, words, tokenizer, weights and seeds.

`planted_tasks` makes the tasks, and says why what is planted is the truth.

Runs are cached by what they depend on (data, sizes, seeds, versions of the libraries below; after a change of this
library's training delete the cache): a killed validation goes on, and more `--studies` only add to it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: sums round differently with more threads

import argparse
import gc
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from planted_tasks import AUXILIARY, CONDITIONS, TARGET, Planted, Scale, backbone, planted_studies, write_tasks
from scipy import stats

from hf_crosstask.atomic import json_fingerprint, write_file, write_json
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.recipe import Recipe
from hf_crosstask.run.prepare import Prepared, prepare, replan
from hf_crosstask.study.parity import TokenParity
from hf_crosstask.study.scored import ScoredRun, scored_run
from hf_crosstask.study.verdict import Control, StudyVerdict, TaskEvidence, VerdictSettings, study_verdict

MULTI, CONTROL, SINGLE = "S2", "S1_token_controlled", "S1"
METRIC = "entity_f1"
_VERSION = 1  # raise it when the same arguments give other runs
_DECISIVE = ("torch", "transformers", "numpy", "tokenizers")


def prepare_study(study: Planted, scale: Scale, folder: Path) -> Prepared:
    """Data, tokenizer and encoded splits of a study, with the plan of its multi-task arm.

    Raises:
        RuntimeError: tasks that should share nothing have a token in common.
    """
    write_tasks(study, scale, folder)
    texts = [
        json.loads(line)["text"]
        for task in (TARGET, AUXILIARY)
        for line in (folder / task / "train.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    value = {
        "name": "trained_study",
        "tasks": [_task(TARGET), _task(AUXILIARY)],
        "data_dir": str(folder),
        "model": {"name_or_path": backbone(texts, study, scale, folder), "max_length": 128, "head_dropout": 0.0},
        "strategy": {"name": MULTI},
        "mixing": {"sampling": "explicit", "unit": "tokens", "weights": {TARGET: 1, AUXILIARY: 1}},
        "budget": {"tokens": scale.tokens},
        "training": {
            "tokens_per_step": scale.tokens_per_step,
            "learning_rate": scale.learning_rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "report_to": "none",
        },
        "output_dir": str(folder / "run"),
        "audit": {"policy": "allow"},
    }
    prepared = prepare(Recipe.model_validate(value), base_models=folder)
    common = common_tokens(prepared)
    if common and study.condition.sharing == 0:
        raise RuntimeError(f"{study.name}: the tasks have tokens in common: {common}")
    return prepared


def _task(name: str) -> dict[str, Any]:
    metrics = {"primary_metric": METRIC, "segmentation": "whitespace"}
    return {"name": name, "type": "ner", "reader": "jsonl", "path": name, "labels": ["Mild", "Severe"], **metrics}


def common_tokens(prepared: Prepared) -> list[str]:
    """Tokens that both tasks train on, but for special ones."""
    found = [
        {token for ids in prepared.encoded[task]["train"].dataset["input_ids"] for token in ids}
        for task in (TARGET, AUXILIARY)
    ]
    common = found[0] & found[1] - set(prepared.tokenizer.all_special_ids)
    return sorted(prepared.tokenizer.convert_ids_to_tokens(sorted(common)))


def arm_recipe(multi: Recipe, arm: str, seed: int, tokens: int) -> Recipe:
    """An arm's recipe, from that of the multi-task arm."""
    value = multi.resolved()
    value["training"]["seed"] = seed
    value["budget"] = {"tokens": tokens}
    if arm != MULTI:
        value |= {"tasks": [_task(TARGET)], "strategy": {"name": arm}, "mixing": {}}
    return Recipe.model_validate(value)


def train_run(prepared: Prepared, arm: str, seed: int, tokens: int) -> tuple[Predictions, dict[str, Any]]:
    """Train one arm with one seed; its predictions of the target's test set, and its account."""
    import torch

    from hf_crosstask.run.precision import run_precision
    from hf_crosstask.run.train import build_trainer

    start = time.perf_counter()
    tasks = (TARGET, AUXILIARY) if arm == MULTI else (TARGET,)
    own = replace(
        prepared,
        recipe=arm_recipe(prepared.recipe, arm, seed, tokens),
        data={task: prepared.data[task] for task in tasks},
        encoded={task: prepared.encoded[task] for task in tasks},
    )
    own = replan(own, own.recipe.training.tokens_per_step)
    precision = run_precision(own, torch.device("cpu"))
    trainer = build_trainer(own, precision, {"output_dir": own.recipe.output_dir, "use_cpu": True})
    trainer.train()
    output: Any = trainer.predict({TARGET: own.encoded[TARGET]["test"].dataset})
    predictions = own.scorer(TARGET, "test").decode(output[TARGET].predictions)
    account = {
        "planned": own.plan.total_tokens,
        "counted": sum(row["tokens"] for row in trainer.ledger.by_task().values()),
        "target_tokens": trainer.ledger.by_task()[TARGET]["tokens"],
        "longest": int(own.plan.lengths[TARGET].max()),
        "data": own.data[TARGET].fingerprint,
        "majority": own.scorer(TARGET, "test").majority()[METRIC],
        "seconds": time.perf_counter() - start,
    }
    return predictions, account


def _arms(study: Planted, scale: Scale) -> dict[str, int]:
    """Arms and their tokens. S1's own budget is what S2 gives the target, or too little."""
    return {
        MULTI: scale.tokens,
        CONTROL: scale.tokens,
        SINGLE: scale.short if study.condition.short else scale.tokens // 2,
    }


def _seed(study: Planted, number: int) -> int:
    return 100 * study.data_seed + number


def study_folder(study: Planted, scale: Scale, cache: Path) -> Path:
    """Where a study's runs are kept: named for all that they depend on but the number of seeds."""
    parts = {key: value for key, value in asdict(scale).items() if key != "seeds"}
    versions = {name: version(name) for name in _DECISIVE}
    content = [_VERSION, study.data_seed, study.condition.sharing, study.condition.short, parts, versions]
    return cache / f"{study.name}-{json_fingerprint(content)[:12]}"


def start_worker() -> None:
    """One thread, no progress bars, and quick garbage collection: `train` collects, and need not look through the
    libraries' own objects each time."""
    import datasets
    import torch
    import transformers

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    gc.freeze()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed validation leaves no worker behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_study(study: Planted, scale: Scale, cache: Path) -> Path:
    """Train what is missing of a study; each run is kept as predictions and, written last, its account."""
    folder = study_folder(study, scale, cache)
    missing = [
        (arm, number, tokens)
        for number in range(scale.seeds)
        for arm, tokens in _arms(study, scale).items()
        if not (folder / f"{arm}-{number}.json").exists()
    ]
    if not missing:
        return folder
    with tempfile.TemporaryDirectory(prefix="trained-study-") as place:
        prepared = prepare_study(study, scale, Path(place))
        for arm, number, tokens in missing:
            predictions, account = train_run(prepared, arm, _seed(study, number), tokens)
            write_file(folder / f"{arm}-{number}.parquet", predictions.to_parquet)
            write_json(folder / f"{arm}-{number}.json", account)
    return folder


@dataclass(frozen=True)
class Outcome:
    """What was said of one study."""

    study: Planted
    verdict: StudyVerdict
    guess: float
    seconds: float


def judge(study: Planted, scale: Scale, cache: Path, settings: VerdictSettings) -> Outcome | None:
    """The verdict from a study's stored runs; None where one is missing."""
    folder = study_folder(study, scale, cache)
    runs: dict[str, list[ScoredRun]] = {}
    accounts: dict[tuple[str, int], dict[str, Any]] = {}
    for arm in _arms(study, scale):
        for number in range(scale.seeds):
            file = folder / f"{arm}-{number}.json"
            if not file.exists():
                return None
            accounts[arm, number] = json.loads(file.read_bytes())
            predictions = Predictions.from_parquet(file.with_suffix(".parquet"))
            runs.setdefault(arm, []).append(scored_run(predictions, arm=arm, seed=_seed(study, number), metric=METRIC))
    parities = [
        TokenParity(
            task=TARGET,
            control=CONTROL,
            mode="total_tokens",
            seed=_seed(study, number),
            reference_planned=accounts[MULTI, number]["planned"],
            reference_counted=accounts[MULTI, number]["counted"],
            control_planned=accounts[CONTROL, number]["planned"],
            control_counted=accounts[CONTROL, number]["counted"],
            allowed=accounts[CONTROL, number]["longest"],
        )
        for number in range(scale.seeds)
    ]
    evidence = TaskEvidence(
        task=TARGET,
        multi=runs[MULTI],
        controls=[Control(CONTROL, "total_tokens", runs[CONTROL])],
        single=runs[SINGLE],
        parities=parities,
        data_fingerprints={f"{arm} seed {number}": each["data"] for (arm, number), each in accounts.items()},
        trivial=accounts[MULTI, 0]["majority"],
    )
    seconds = sum(each["seconds"] for each in accounts.values())
    return Outcome(study, study_verdict([evidence], settings, name=study.name), one_grade(predictions), seconds)


def one_grade(predictions: Predictions) -> float:
    """Entity F1 of finding every term and calling all mild: each sentence has three, a third of them of no grade."""
    gold = [entity for entities in predictions.gold for entity in entities]
    mild = sum(entity.type == "Mild" for entity in gold)
    return 2 * mild / (3 * len(predictions.gold) + len(gold))


def upper_bound(hits: int, of: int) -> float:
    """One-sided 95 % Clopper-Pearson bound of a proportion."""
    return 1.0 if hits == of else float(stats.beta.ppf(0.95, hits + 1, of - hits))


def interval(hits: int, of: int) -> tuple[float, float]:
    """Two-sided 95 % Clopper-Pearson interval of a proportion."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, of - hits + 1))
    return low, 1.0 if hits == of else float(stats.beta.ppf(0.975, hits + 1, of - hits))


def mean_interval(values: Sequence[float]) -> str:
    """Mean and 95 % t-interval over studies, in points."""
    points = 100 * np.asarray(values)
    if len(points) < 2:
        return f"{points.mean():+.2f}"
    half = float(stats.t.ppf(0.975, len(points) - 1) * points.std(ddof=1) / len(points) ** 0.5)
    return f"{points.mean():+.2f} [{points.mean() - half:+.2f}, {points.mean() + half:+.2f}]"


def report(outcomes: Sequence[Outcome]) -> str:
    """Markdown tables of what was said where."""
    columns = ["condition", "studies", "S1", "S1 at equal tokens", "S2", "S2 - equal tokens", "transfer", "negative"]
    columns += ["equivalent", "undecided", "no verdict", "gain: exposure", "gain: transfer and exposure"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for condition in CONDITIONS:
        tasks = [each.verdict.tasks[0] for each in outcomes if each.study.condition == condition]
        if not tasks:
            continue
        means = [float(np.mean([task.scores[arm].mean for task in tasks])) for arm in (SINGLE, CONTROL, MULTI)]
        differences = [task.scores[MULTI].mean - task.scores[CONTROL].mean for task in tasks]
        categories = ("transfer", "negative_transfer", "equivalent", "undecided", "no_verdict")
        counts = [sum(task.category == category for task in tasks) for category in categories]
        gains = [sum(task.gain == gain for task in tasks) for gain in ("exposure", "transfer and exposure")]
        cells = [condition.name, len(tasks), *(f"{mean:.3f}" for mean in means), mean_interval(differences)]
        lines.append(f"| {' | '.join(map(str, [*cells, *counts, *gains]))} |")
    nothing = [each for each in outcomes if each.study.condition.sharing == 0]
    for label, group in (
        ("shares nothing", [each for each in nothing if not each.study.condition.short]),
        ("all studies without transfer", nothing),
    ):
        false = sum(each.verdict.category == "transfer" for each in group)
        if group:
            shown = [each.verdict.tasks[0] for each in group]
            better = sum(
                task.p_transfer is not None and task.p_transfer <= each.verdict.settings.alpha
                for each, task in zip(group, shown, strict=True)
            )
            lines.append(
                f'\n{label}: false "transfer" in {false} of {len(group)} studies ({false / len(group):.1%}, upper 95 % '
                f"bound {upper_bound(false, len(group)):.1%}); without a declared smallest effect, in {better} "
                f"({better / len(group):.1%}, upper bound {upper_bound(better, len(group)):.1%})"
            )
    above = sum(each.verdict.tasks[0].scores[CONTROL].mean > each.guess for each in outcomes)
    guess = float(np.mean([each.guess for each in outcomes]))
    lines.append(
        f"\nS1 at equal tokens beats finding every term and calling all mild (mean F1 {guess:.3f}; the library's trivial "
        f"predictor has 0) in {above} of {len(outcomes)} studies; "
        f"{sum(each.seconds for each in outcomes):.0f} s of training"
    )
    return "\n".join(lines)


def plot(outcomes: Sequence[Outcome], file: Path) -> None:
    """Power against dose, and the measured differences, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    doses = sorted({each.study.condition.sharing for each in outcomes})
    shares, lows, highs = [], [], []
    for position, dose in enumerate(doses):
        group = [each for each in outcomes if each.study.condition.sharing == dose]
        hits = sum(each.verdict.category == "transfer" for each in group)
        low, high = interval(hits, len(group))
        share = hits / len(group)
        shares.append(share)
        lows.append(share - low)
        highs.append(high - share)
        left.annotate(f"{hits}/{len(group)}", (dose, share), xytext=(5, 5), textcoords="offset points", fontsize=8)
        values = [
            100 * (each.verdict.tasks[0].scores[MULTI].mean - each.verdict.tasks[0].scores[CONTROL].mean)
            for each in group
        ]
        spread = np.linspace(-0.03, 0.03, len(values))
        right.scatter(dose + spread, values, s=12, color="#0072B2")
        right.scatter(
            [dose], [np.mean(values)], marker="_", s=300, color="#D55E00", label="mean" if not position else None
        )
    left.errorbar(doses, shares, yerr=[lows, highs], fmt="o-", color="#0072B2", capsize=3)
    left.axhline(0.05, linestyle="--", linewidth=0.8, color="black")
    left.set(
        xlabel="share of words in common", ylabel='studies called "transfer"', xlim=(-0.08, 1.15), ylim=(-0.03, 1.08)
    )
    right.axhline(0, linestyle="--", linewidth=0.8, color="black")
    right.set(xlabel="share of words in common", ylabel="S2 - S1 at equal tokens (F1 points)")
    right.legend(frameon=False)
    write_file(file, lambda path: figure.savefig(path, format="png", dpi=160, metadata={"Software": None}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=40, help="that share nothing; the others in proportion")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=45, help="start no study after this time")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "hf_crosstask_trained_studies")
    parser.add_argument("--plot", type=Path, help="PNG of power against dose")
    parser.add_argument("--margin", type=float, default=0.02, help="smallest effect of interest, in F1")
    options = parser.parse_args()
    scale, settings = Scale(), VerdictSettings(margin=options.margin)
    planned, start = planted_studies(options.studies), time.monotonic()
    waiting = list(planned)
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), start_worker) as pool:
        running: dict[Any, Planted] = {}
        done = 0
        while waiting or running:
            while waiting and len(running) < options.workers and time.monotonic() - start < 60 * options.minutes:
                study = waiting.pop(0)
                running[pool.submit(run_study, study, scale, options.cache)] = study
            if not running:
                break
            future = next(as_completed(running))
            future.result()
            done += 1
            print(f"[{done}/{len(planned)}] {running.pop(future).name}, {time.monotonic() - start:.0f} s", flush=True)
    outcomes = [found for study in planned if (found := judge(study, scale, options.cache, settings)) is not None]
    print(
        f"\n{len(outcomes)} of {len(planned)} studies, {scale.seeds} seeds, margin {options.margin:g}; {asdict(scale)}\n"
    )
    print(report(outcomes))
    if options.plot is not None and outcomes:
        plot(outcomes, options.plot)


if __name__ == "__main__":
    main()
