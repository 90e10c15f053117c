"""Asking all questions: concurrently, within rate limit and budget, each answer stored as it comes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from hf_crosstask.errors import CrosstaskError, InputError, Interrupted
from hf_crosstask.release.api_baseline.endpoint import Endpoint, RateLimit, RefusedError, RetryError, pause_before
from hf_crosstask.release.api_baseline.questions import Question
from hf_crosstask.release.api_baseline.store import Completion, Store

#: This many refusals, and not one answer, mean that something is wrong with all requests.
_REFUSALS = 5


@dataclass(frozen=True)
class Prices:
    """Price of a million tokens, in any one currency."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of one answer."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6

    def most(self, question: Question) -> float:
        """The most that one attempt at a question can cost."""
        return self.of(question.prompt_bytes, question.most_tokens)


@dataclass(frozen=True)
class Asked:
    """What came of the questions, in their order: an answer, or None where the endpoint refused; and what was new."""

    completions: tuple[Completion | None, ...]
    from_cache: int


class _BudgetReached(CrosstaskError):
    pass


class Asker:
    """Asks questions through a store.

    Args:
        endpoint: where.
        store: answers and ledger; its cap is kept.
        prices: of tokens.
        concurrency: requests in flight.
        rate: starts of requests.
        attempts: at one question.
    """

    def __init__(
        self, endpoint: Endpoint, store: Store, prices: Prices, *, concurrency: int, rate: RateLimit, attempts: int = 6
    ):
        self._endpoint, self._store, self._prices = endpoint, store, prices
        self._concurrency, self._rate, self._attempts = concurrency, rate, attempts
        self._jitter, self._stop = random.Random(0), threading.Event()
        self._answered, self._refused = 0, 0

    def ask(self, questions: Sequence[Question]) -> Asked:
        """Answers to all questions; equal questions are asked once.

        Raises:
            Interrupted: the budget is reached. What was answered is stored; the same call goes on from there.
            InputError: the endpoint refuses all requests.
            CrosstaskError: a question failed at every attempt.
        """
        known = {question.key: self._store.answer(question.key) for question in questions}
        from_cache = sum(completion is not None for completion in known.values())
        pending = iter([q for q in {q.key: q for q in questions}.values() if known[q.key] is None])
        running: dict[Future[Completion | None], Question] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(self._concurrency) as pool:
            while True:
                while failure is None and len(running) < self._concurrency:
                    question = next(pending, None)
                    if question is None:
                        break
                    running[pool.submit(self._ask, question)] = question
                if not running:
                    break
                try:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    self._stop.set()
                    raise
                for future in done:
                    question = running.pop(future)
                    error = future.exception()
                    if error is None:
                        known[question.key] = future.result()
                    else:
                        failure = failure or error
                        self._stop.set()
        if isinstance(failure, _BudgetReached):
            answered = sum(completion is not None for completion in known.values())
            spent = self._store.spent
            raise Interrupted(
                f"the budget is reached: {answered} of {len(known)} questions answered, {spent.requests} requests and "
                f"{spent.cost:.4f} spent. Raise --max-requests or --max-cost and run it again: no answer is paid twice."
            )
        if failure is not None:
            raise failure
        return Asked(tuple(known[question.key] for question in questions), from_cache)

    def _ask(self, question: Question) -> Completion | None:
        """One question, with retries; None where it is refused."""
        for attempt in range(self._attempts):
            self._rate.wait()
            number = None if self._stop.is_set() else self._store.reserve(question.key, self._prices.most(question))
            if number is None:
                raise _BudgetReached
            try:
                completion = self._endpoint.complete(question.body)
            except RefusedError as error:
                self._store.settle(number, question.key, None, 0.0)
                self._refused += 1
                if self._answered == 0 and self._refused >= _REFUSALS:
                    raise InputError(f"the endpoint refuses every request: {error}") from None
                return None
            except RetryError as error:
                if error.turned_away:
                    self._store.settle(number, question.key, None, 0.0)
                if attempt + 1 == self._attempts:
                    raise CrosstaskError(f"{error} ({self._attempts} attempts); run it again to go on") from None
                time.sleep(pause_before(attempt, error.pause, self._jitter))
                continue
            self._answered += 1
            cost = self._prices.of(completion.prompt_tokens, completion.completion_tokens)
            if completion.prompt_tokens == 0:  # the endpoint does not say what it charges for
                cost = self._prices.most(question)
            self._store.settle(number, question.key, completion, cost)
            return completion
        raise AssertionError("unreachable")
