"""Is what a study says true of real training? Small studies with planted truth, every run trained in this process.

    python tests/validation/trained_studies.py [--studies 40] [--workers 2] [--minutes 45] [--cache DIR] [--plot FILE.png]

A study trains a target task (NER over invented words) and an auxiliary task together (S2), the target alone (S1), and
the target alone on exactly the tokens of S2 (S1_token_controlled), with 5 seeds, by the library's own preparation,
plans, trainers, scorers and verdict. Every study has its own data, words, tokenizer, weights and seeds.

**Truth by construction.** In both tasks the hidden grade of a word decides its label, and a word's grade has nothing to
do with its spelling. The target's training set is small: many words of its test set do not occur in it.

- `shares nothing` (sharing 0): every word of the auxiliary task has a name that the target does not have (its invented
  words, templates, numbers, modifiers, punctuation), its sentences are in random word order, so that place tells nothing,
  and its labels depend on grades that were given to its own words alone. So the tasks' training texts have no token in
  common but [CLS] and [SEP] (checked in every study), and the auxiliary data are independent of what the target's words
  mean: they hold no information on it. Both arms train the target beyond the point where it is learned, so half the
  target's tokens are no great handicap either, and the true difference is close to 0: the hard place for a false claim.
- `exposure only`: the same, but the single-task arm's own budget is so short that it is undertrained. More tokens help,
  the other task does not: the gain of S2 over S1 is exposure.
- `sharing 0.25 ... 1`: this share of the invented words, with their grades, keeps its names in the auxiliary task, whose
  training set shows them all. Everything else is as in `shares nothing`.

What the construction does not exclude is that a second task trains the same weights better or worse for reasons other
than what it knows (noise, regularisation, a head start of the body). That would be an effect, and claiming it would be
right; whether there is one is measured: the mean difference over all studies of a condition, with its 95 % interval over
studies, is printed beside the verdicts.

Runs are cached by what they depend on: a killed validation goes on, and more `--studies` only add to it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: sums round differently with more threads

import argparse
import gc
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hf_crosstask.atomic import json_fingerprint, write_file, write_json
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.recipe import Recipe
from hf_crosstask.run.prepare import Prepared, prepare, replan
from hf_crosstask.study.parity import TokenParity
from hf_crosstask.study.scored import ScoredRun, scored_run
from hf_crosstask.study.verdict import Control, StudyVerdict, TaskEvidence, VerdictSettings, study_verdict
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import load_task
from hf_crosstask.tasks.schema import make_entity
from hf_crosstask.tasks.synthetic_lexicon import build_lexicon

TARGET, AUXILIARY = "target", "auxiliary"
MULTI, CONTROL, SINGLE = "S2", "S1_token_controlled", "S1"
METRIC = "entity_f1"
_VERSION = 1  # raise it when the same arguments give other runs
_DECISIVE = ("torch", "transformers", "numpy", "tokenizers")


@dataclass(frozen=True)
class Scale:
    """How small a study is. Tokens are forward tokens; those of the multi-task arm are half the target's."""

    train: int = 60
    auxiliary: int = 300
    test: int = 250
    tokens: int = 16_000
    short: int = 6_000
    tokens_per_step: int = 512
    learning_rate: float = 0.006
    hidden: int = 64
    seeds: int = 5


@dataclass(frozen=True)
class Condition:
    """One planted truth: the share of words in common, whether S1 is undertrained, and how many studies per 40."""

    name: str
    sharing: float
    short: bool
    per_forty: int


CONDITIONS = (
    Condition("shares nothing", 0.0, False, 40),
    Condition("exposure only", 0.0, True, 20),
    Condition("sharing 0.25", 0.25, False, 8),
    Condition("sharing 0.5", 0.5, False, 8),
    Condition("sharing 0.75", 0.75, False, 8),
    Condition("sharing 1", 1.0, False, 8),
)


@dataclass(frozen=True)
class Planted:
    """One study: its condition and its number in it."""

    condition: Condition
    number: int

    @property
    def data_seed(self) -> int:
        """Of words, texts and weights: different in every study."""
        return 1 + self.number * len(CONDITIONS) + CONDITIONS.index(self.condition)

    @property
    def name(self) -> str:
        return f"{self.condition.name.replace(' ', '-')}-{self.number}"


def planted_studies(studies: int) -> list[Planted]:
    """All studies, `studies` of the first condition and the others in proportion, mixed so that a part is balanced."""
    placed = []
    for condition in CONDITIONS:
        count = -(-studies * condition.per_forty // 40)
        placed += [((number + 0.5) / count, Planted(condition, number)) for number in range(count)]
    return [study for _, study in sorted(placed, key=lambda item: item[0])]


# Data


def _examples(name: str, sharing: float, data_seed: int, count: int) -> list[dict[str, Any]]:
    """Sentences of the reader `synthetic` with the words that training data covers."""
    options = {"sharing": sharing, "seed": data_seed, "train": count, "validation": 1, "test": 1}
    labels = ["Mild", "Severe"]
    spec = TaskSpec.model_validate(
        {"name": name, "type": "ner", "reader": "synthetic", "labels": labels, "options": options}
    )
    return list(load_task(spec, data_dir=None).splits["train"])


def _letters(number: int) -> str:
    return chr(97 + number // 26) + chr(97 + number % 26)


def _scrambled(examples: Sequence[Mapping[str, Any]], keep: set[str], seed: int) -> list[dict[str, Any]]:
    """The same words in random order (an entity stays together), all but those to keep under names of their own."""
    rng = random.Random(f"trained_studies/order/{seed}")
    names: dict[str, str] = {}
    scrambled = []
    for example in examples:
        entity_at = {entity["offsets"][0][0]: entity for entity in example["entities"]}
        units: list[tuple[str, Mapping[str, Any] | None]] = []
        at = 0
        while at < len(example["text"]):
            entity = entity_at.get(at)
            end = entity["offsets"][0][1] if entity else (example["text"] + " ").index(" ", at)
            names_of = [
                word if word in keep else names.setdefault(word, f"q{_letters(len(names))}q")
                for word in example["text"][at:end].split(" ")
            ]
            units.append((" ".join(names_of), entity))
            at = end + 1
        rng.shuffle(units)
        text, entities = "", []
        for words, entity in units:
            start = len(text) + 1 if text else 0
            text = f"{text} {words}" if text else words
            if entity is not None:
                entities.append(make_entity(entity["id"], entity["type"], [(start, len(text))], [words]))
        scrambled.append({**example, "text": text, "entities": entities})
    return scrambled


def shared_words(sharing: float, data_seed: int) -> set[str]:
    """The invented words that both tasks have."""
    lexicon = build_lexicon(TARGET, "ner", seed=data_seed, sharing=sharing)
    return {lexicon.words[slot] for slot in lexicon.shared}


def _write(folder: Path, split: str, examples: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({key: value for key, value in each.items() if key != "task"}) for each in examples]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tasks(study: Planted, scale: Scale, folder: Path) -> None:
    """Both tasks of a study as JSON Lines."""
    sharing, seed = study.condition.sharing, study.data_seed
    target = _examples(TARGET, sharing, seed, scale.train + scale.test)
    other = _examples(AUXILIARY, sharing, seed, scale.auxiliary + 2)
    _write(folder / TARGET, "train", target[: scale.train])
    _write(folder / TARGET, "test", target[scale.train :])
    other = _scrambled(other, shared_words(sharing, seed), seed)
    _write(folder / AUXILIARY, "train", other[: scale.auxiliary])
    _write(folder / AUXILIARY, "test", other[scale.auxiliary :])


def backbone(texts: Sequence[str], study: Planted, scale: Scale, folder: Path) -> str:
    """A BERT of one layer with random weights, and a tokenizer of these texts."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from hf_crosstask.models.tiny import build_tiny

    tiny = build_tiny("tiny:bert", texts, folder, seed=study.data_seed)
    sizes = {"hidden_size": scale.hidden, "intermediate_size": 2 * scale.hidden, "num_attention_heads": 2}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = AutoConfig.from_pretrained(tiny, num_hidden_layers=1, **sizes, **none)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.data_seed)
        model = AutoModel.from_config(config)
    path = folder / "backbone"
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(path)
    return str(path)


# Runs


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
    own = replan(own, scaled_micro_batch(own))
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


def scaled_micro_batch(prepared: Prepared) -> int:
    """One micro-batch a step."""
    return int(prepared.recipe.training.tokens_per_step)


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


# Verdicts


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
            lines.append(
                f'\n{label}: false "transfer" in {false} of {len(group)} studies ({false / len(group):.1%}, upper 95 % '
                f"bound {upper_bound(false, len(group)):.1%})"
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
    left.set(xlabel="share of words in common", ylabel='studies called "transfer"', ylim=(-0.03, 1.08))
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
