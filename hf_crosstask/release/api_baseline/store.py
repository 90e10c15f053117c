"""Answers that were paid for, and what was spent: one SQLite file that survives `kill -9`.

An attempt is written down with the most it can cost before it is sent, and settled when its answer is stored, in one
transaction. What was cut off in between counts at its highest price: a cap on the sum is never exceeded, over any number
of restarts. Prompts are not stored, only the hash of each request.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from hf_crosstask.errors import InputError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    request TEXT PRIMARY KEY, answer TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT NOT NULL, cost REAL NOT NULL, settled INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class Completion:
    """What the endpoint answered, and the tokens that it charges for."""

    answer: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Cap:
    """The most that may be spent through a store, all runs together; None: no limit.

    Attributes:
        requests: HTTP requests sent, retries included.
        cost: in the currency of the prices.
    """

    requests: int | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Spent:
    """What was spent through a store: requests sent, and their cost (the highest possible where no answer came)."""

    requests: int
    cost: float


class Store:
    """A cache of answers with a ledger of attempts, for several threads of one process.

    Args:
        path: the SQLite file; made if need be.
        cap: see `Cap`.

    Raises:
        InputError: the file is no such database, or another process uses it.
    """

    def __init__(self, path: Path, cap: Cap):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._cap, self._lock = cap, threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # two processes would each keep to the cap, not both
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise InputError(f"{path}: {error}; is another api-baseline using it?") from None
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} is not a cache of answers: {error}") from None
        requests, cost = self._db.execute("SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM attempts").fetchone()
        self._requests, self._cost = int(requests), float(cost)

    def answer(self, request: str) -> Completion | None:
        """The stored answer to a request, by its hash."""
        with self._lock:
            row = self._db.execute(
                "SELECT answer, prompt_tokens, completion_tokens FROM answers WHERE request = ?", (request,)
            ).fetchone()
        return None if row is None else Completion(*row)

    @property
    def spent(self) -> Spent:
        """So far."""
        with self._lock:
            return Spent(self._requests, self._cost)

    def reserve(self, request: str, most: float) -> int | None:
        """Write down an attempt before it is sent.

        Args:
            request: its hash.
            most: the most it can cost.

        Returns:
            Its number; None where the cap does not allow it.
        """
        with self._lock:
            if self._cap.requests is not None and self._requests + 1 > self._cap.requests:
                return None
            if self._cap.cost is not None and self._cost + most > self._cap.cost:
                return None
            cursor = self._db.execute(
                "INSERT INTO attempts (request, cost, settled) VALUES (?, ?, 0)", (request, most)
            )
            self._requests, self._cost = self._requests + 1, self._cost + most
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def settle(self, attempt: int, request: str, completion: Completion | None, cost: float) -> None:
        """Record what an attempt really cost, and its answer (None where the endpoint refused it)."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            (reserved,) = self._db.execute("SELECT cost FROM attempts WHERE id = ?", (attempt,)).fetchone()
            self._db.execute("UPDATE attempts SET cost = ?, settled = 1 WHERE id = ?", (cost, attempt))
            if completion is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                    (request, completion.answer, completion.prompt_tokens, completion.completion_tokens),
                )
            self._db.execute("COMMIT")
            self._cost += cost - reserved

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
