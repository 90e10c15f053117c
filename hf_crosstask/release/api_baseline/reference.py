"""`hf-crosstask api-baseline`: a language model behind an API on the tasks of a recipe, with no and with five examples."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from hf_crosstask.atomic import write_json
from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import MetricValue
from hf_crosstask.evaluation.scorer import build_scorer
from hf_crosstask.recipe import Recipe
from hf_crosstask.release.api_baseline.asking import Asked, Asker, Prices
from hf_crosstask.release.api_baseline.endpoint import Endpoint, RateLimit
from hf_crosstask.release.api_baseline.questions import Question, as_generative, choose_shots, questions
from hf_crosstask.release.api_baseline.store import Cap, Store
from hf_crosstask.tasks.card import TaskCard
from hf_crosstask.tasks.load import TaskData, load_task
from hf_crosstask.tasks.registry import resolve_card

FILE_NAME = "api_reference.json"
#: Metrics that need the likelihood of the right answer, which a chat endpoint does not give.
_WITHOUT_LIKELIHOOD = "perplexity"
_TYPICAL_BYTES_PER_TOKEN, _TYPICAL_ANSWER_TOKENS = 4, 16
_NOTE = (
    "A reference point, not a baseline: a model of unknown training data (the test sets may be in it), asked instead of "
    "trained. It takes no part in any comparison or verdict of a study."
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ShotResult(_Model):
    """One task with one number of examples in the prompt.

    `refused`: questions that the endpoint would not answer (too long, say); they count as unread answers.
    """

    shots: int
    shot_ids: list[str]
    examples: int
    metrics: dict[str, MetricValue]
    parse_failure_rate: float
    refused: int
    from_cache: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


class TaskReference(_Model):
    """One task. `majority` is the trivial predictor's value of the primary metric on the same examples."""

    type: str
    primary: str
    majority: float
    data_fingerprint: str
    results: list[ShotResult]


class ApiReference(_Model):
    """`api_reference.json`."""

    schema_version: Literal[1] = 1
    kind: Literal["reference"] = "reference"
    note: str = _NOTE
    model: str
    endpoint: str
    recipe: str
    recipe_fingerprint: str
    split: str
    tasks: dict[str, TaskReference]
    skipped: dict[str, str]
    prices_per_million_tokens: dict[str, float]
    spent: dict[str, float]


@dataclass(frozen=True)
class Settings:
    """How to ask.

    Attributes:
        model: its name at the endpoint.
        shots: numbers of examples in the prompt.
        examples: of each task's evaluation split, a seeded sample; None: all.
        output: folder of the result and the cache.
        prices, cap: what tokens cost, and how much may be spent.
        concurrency, per_minute, attempts: see `Asker`.
        send_credentialed_text: send text of corpora that need credentials.
        dry_run: say what it would cost, and stop.
    """

    model: str
    output: Path
    shots: tuple[int, ...] = (0, 5)
    examples: int | None = None
    prices: Prices | None = None
    cap: Cap = field(default_factory=Cap)
    concurrency: int = 8
    per_minute: float | None = None
    attempts: int = 6
    send_credentialed_text: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class _Posed:
    """One task's questions."""

    data: TaskData
    card: TaskCard
    examples: Any
    lost_gold: Mapping[str, int]
    shots: dict[int, list[dict[str, Any]]]
    questions: dict[int, list[Question]]


def endpoint_from_environment(environment: Mapping[str, str] | None = None) -> Endpoint:
    """The endpoint that `OPENAI_BASE_URL` and `OPENAI_API_KEY` name.

    Raises:
        InputError: there is no address, or it is none.
    """
    environment = os.environ if environment is None else environment
    base_url = environment.get("OPENAI_BASE_URL", "").strip()
    if not base_url:
        raise InputError(
            "set OPENAI_BASE_URL to an OpenAI-compatible endpoint (https://api.openai.com/v1, or http://localhost:8000/v1 "
            "of a server of your own) and OPENAI_API_KEY to its key"
        )
    return Endpoint(base_url, environment.get("OPENAI_API_KEY", "").strip() or None)


def run(recipe: Recipe, settings: Settings, endpoint: Endpoint) -> ApiReference | None:
    """Ask, score, and write `api_reference.json`.

    Returns:
        What was written; None for a dry run.

    Raises:
        InputError: a task's text may not be sent, or the settings do not fit each other.
        Interrupted: the budget is reached; the same call goes on from there.
    """
    if settings.cap.cost is not None and settings.prices is None:
        raise InputError("--max-cost needs --prompt-price and --completion-price (of a million tokens)")
    _refuse_credentialed(recipe, settings)
    posed, skipped = _pose(recipe, settings, endpoint)
    store = Store(settings.output / "answers.sqlite", settings.cap)
    try:
        _estimate(posed, store, settings)
        if settings.dry_run:
            return None
        prices = settings.prices or Prices(0.0, 0.0)
        asker = Asker(
            endpoint,
            store,
            prices,
            concurrency=settings.concurrency,
            rate=RateLimit(settings.per_minute),
            attempts=settings.attempts,
        )
        tasks = {task: _task(recipe, each, asker, prices) for task, each in posed.items()}
        spent = store.spent
    finally:
        store.close()
    result = ApiReference(
        model=settings.model,
        endpoint=endpoint.shown,
        recipe=recipe.name,
        recipe_fingerprint=recipe.fingerprint(),
        split=recipe.evaluation.split,
        tasks=tasks,
        skipped=skipped,
        prices_per_million_tokens={"prompt": prices.prompt, "completion": prices.completion},
        spent={"requests": spent.requests, "cost": spent.cost},
    )
    write_json(settings.output / FILE_NAME, result.model_dump(mode="json"))
    return result


def _refuse_credentialed(recipe: Recipe, settings: Settings) -> None:
    cards = [resolve_card(spec) for spec in recipe.tasks]
    credentialed = [card.name for card in cards if card.access == "credentialed"]
    if credentialed and not settings.send_credentialed_text:
        raise InputError(
            f"{', '.join(credentialed)}: text of corpora that need credentials may not be sent to others; their data use "
            "agreements forbid it unless the endpoint is covered by one. Leave these tasks out (tasks='[…]'), or say "
            "--send-credentialed-text where you may"
        )


def _pose(recipe: Recipe, settings: Settings, endpoint: Endpoint) -> tuple[dict[str, _Posed], dict[str, str]]:
    data_dir = Path(recipe.data_dir).expanduser() if recipe.data_dir else None
    split, seed = recipe.evaluation.split, recipe.training.seed
    posed: dict[str, _Posed] = {}
    skipped: dict[str, str] = {}
    for spec in recipe.tasks:
        data = load_task(spec, data_dir=data_dir)
        if split not in data.splits or "train" not in data.splits:
            raise InputError(f"task {spec.name} needs a train and a {split} split; it has {', '.join(data.splits)}")
        try:
            card = as_generative(data.card)
        except InputError as error:
            skipped[spec.name] = str(error)
            continue
        everything = data.splits[split]
        count = min(settings.examples or len(everything), len(everything))
        examples = everything
        if count < len(everything):
            examples = everything.shuffle(seed=seed, keep_in_memory=True).select(range(count))
        lost = {label: round(n * count / len(everything)) for label, n in data.lost_gold.get(split, {}).items()}
        shots = {number: choose_shots(data, number, seed=seed) for number in settings.shots}
        asked = {
            number: questions(card, examples, chosen, model=settings.model, base_url=endpoint.shown, seed=seed)
            for number, chosen in shots.items()
        }
        posed[spec.name] = _Posed(data, card, examples, lost, shots, asked)
    if not posed:
        raise InputError("no task of the recipe can be posed to a language model: " + "; ".join(skipped.values()))
    return posed, skipped


def _estimate(posed: Mapping[str, _Posed], store: Store, settings: Settings) -> None:
    """Print what is still to be asked, and what that costs: likely, and at most."""
    everything = [question for each in posed.values() for asked in each.questions.values() for question in asked]
    unique = {question.key: question for question in everything}
    new = [question for question in unique.values() if store.answer(question.key) is None]
    tokens = sum(question.prompt_bytes for question in new) // _TYPICAL_BYTES_PER_TOKEN
    answers = len(new) * _TYPICAL_ANSWER_TOKENS
    text = f"{len(new):,} requests ({len(unique) - len(new):,} answered before), about {tokens:,} prompt tokens"
    if settings.prices is not None:
        likely, most = settings.prices.of(tokens, answers), sum(map(settings.prices.most, new))
        text += f"; about {likely:.4f}, at most {most:.4f}"
        if settings.cap.cost is not None:
            text += f" (cap {settings.cap.cost:g}, {store.spent.cost:.4f} spent before)"
    print(text)


def _task(recipe: Recipe, posed: _Posed, asker: Asker, prices: Prices) -> TaskReference:
    results = [_shots(recipe, posed, shots, asker.ask(asked), prices) for shots, asked in posed.questions.items()]
    primary = posed.card.primary_metric
    majority = _scorer(posed).majority()[primary]
    return TaskReference(
        type=posed.card.type,
        primary=primary,
        majority=majority,
        data_fingerprint=posed.data.fingerprint,
        results=results,
    )


def _scorer(posed: _Posed) -> Any:
    from datasets import Dataset

    rows = Dataset.from_dict({"example_index": list(range(len(posed.examples)))})
    return build_scorer(posed.card, posed.examples, rows, posed.lost_gold, train=posed.data.splits["train"])


def _shots(recipe: Recipe, posed: _Posed, shots: int, asked: Asked, prices: Prices) -> ShotResult:
    scorer = _scorer(posed)
    answers = ["" if completion is None else completion.answer for completion in asked.completions]
    predictions = scorer.read(answers, np.tile(np.array([0.0, 1.0], np.float32), (len(answers), 1)))
    settings = recipe.evaluation
    values = scorer.evaluate(
        predictions,
        replicates=settings.bootstrap_replicates,
        seed=recipe.training.seed,
        level=settings.confidence,
    )
    values.pop(_WITHOUT_LIKELIHOOD, None)
    failed = [not each.parsed for each in predictions.answers or ()]
    usage = [completion for completion in asked.completions if completion is not None]
    tokens = sum(each.prompt_tokens for each in usage), sum(each.completion_tokens for each in usage)
    return ShotResult(
        shots=shots,
        shot_ids=[str(shot["id"]) for shot in posed.shots[shots]],
        examples=len(answers),
        metrics=values,
        parse_failure_rate=float(np.mean(failed)),
        refused=len(answers) - len(usage),
        from_cache=asked.from_cache,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        cost=prices.of(*tokens),
    )


def print_reference(result: ApiReference, output: Path) -> None:
    """A table with one row for each task and number of examples."""
    from rich.box import ASCII2
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.model}, asked on {result.split}: a reference, not a baseline", box=ASCII2)
    table.title_justify = "left"
    for heading in ("task", "metric", "shots", "score", "majority", "unread answers", "from cache"):
        table.add_column(heading, justify="left" if heading in ("task", "metric") else "right")
    for name, task in result.tasks.items():
        for each in task.results:
            score = each.metrics[task.primary]
            interval = "n/a" if score.low is None else f"{score.low:.4f}, {score.high:.4f}"
            table.add_row(
                name,
                task.primary,
                str(each.shots),
                f"{score.value:.4f} \\[{interval}]",
                f"{task.majority:.4f}",
                f"{each.parse_failure_rate:.1%}",
                f"{each.from_cache:,}",
            )
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 400)
    console.print(table)
    for name, why in result.skipped.items():
        print(f"skipped {name}: {why}")
    print(f"{result.spent['requests']:,.0f} requests, {result.spent['cost']:.4f} spent in all; results in {output}")


def parse_shots(texts: Sequence[int]) -> tuple[int, ...]:
    """Numbers of examples, each once.

    Raises:
        InputError: a number is negative.
    """
    if any(number < 0 for number in texts):
        raise InputError("--shots are numbers of examples, 0 or more")
    return tuple(dict.fromkeys(texts))
