"""An OpenAI-compatible endpoint over plain HTTP: rate limit, retries, and a key that is written nowhere."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message as Headers
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from hf_crosstask.errors import CrosstaskError, InputError
from hf_crosstask.release.api_baseline.store import Completion

#: Answers after which another attempt makes sense.
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: Answers that no other request of the run would get around.
_FATAL = {401: "the key is refused", 403: "the key may not do this", 404: "no such endpoint or model"}
_LONGEST_PAUSE = 60.0


class RefusedError(CrosstaskError):
    """The endpoint refuses one request (too long, say); another attempt would be refused too."""


class RetryError(CrosstaskError):
    """An attempt failed in a way that may pass.

    Args:
        message: what happened.
        pause: seconds that the endpoint asks to wait; None where it does not say.
        turned_away: the endpoint said that it did not answer; else (cut off, timed out) it may have, for money.
    """

    def __init__(self, message: str, pause: float | None = None, *, turned_away: bool = False):
        self.pause, self.turned_away = pause, turned_away
        super().__init__(message)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to wherever it points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass
class RateLimit:
    """Starts of requests, spread evenly.

    Attributes:
        per_minute: how many; None: no limit.
    """

    per_minute: float | None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Sleep until the next request may start."""
        if self.per_minute is None:
            return
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + 60.0 / self.per_minute
        time.sleep(max(0.0, start - time.monotonic()))


@dataclass(frozen=True)
class Endpoint:
    """Where requests go.

    Attributes:
        base_url: as in `OPENAI_BASE_URL`, without `/chat/completions`.
        key: sent as a bearer token, and taken out of every message; None where the endpoint wants none.
        timeout: seconds for one attempt.
    """

    base_url: str
    key: str | None = field(repr=False)
    timeout: float = 120.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"OPENAI_BASE_URL is no http(s) address: {self.shown!r}")
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme == "http" and self.key is not None and not local:
            raise InputError(f"{self.shown}: a key is not sent over plain http to another machine; use https")

    @property
    def shown(self) -> str:
        """The address without user, password and query."""
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """One attempt at one chat completion.

        Raises:
            RetryError: it may pass (rate limit, server error, no connection, cut off).
            RefusedError: this request is refused.
            InputError: every request would be refused, or the answer is not what the protocol says.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "hf_crosstask"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            raise self._error(error.code, error.headers, _read(error)) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise RetryError(f"{self.shown}: {type(error).__name__}: {self._clean(str(reason))}") from None
        return self._parse(content)

    def _error(self, status: int, headers: Headers, content: bytes) -> CrosstaskError:
        said = self._clean(_message(content))
        if status in _RETRIED:
            pause = _seconds(headers.get("Retry-After"))
            return RetryError(f"{self.shown} answers {status}: {said}", pause, turned_away=True)
        if status in _FATAL:
            return InputError(f"{self.shown} answers {status}, {_FATAL[status]}: {said}")
        if 300 <= status < 400:
            return InputError(f"{self.shown} redirects ({status}); set OPENAI_BASE_URL to the place itself")
        return RefusedError(f"{self.shown} answers {status}: {said}")

    def _parse(self, content: bytes) -> Completion:
        try:
            value = json.loads(content)
            answer = value["choices"][0]["message"]["content"] or ""
            usage = value.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            shown = self._clean(content[:200].decode("utf-8", "replace"))
            raise InputError(f"{self.shown} does not answer as a chat completion: {shown!r}") from None
        return Completion(str(answer), *tokens)

    def _clean(self, text: str) -> str:
        text = " ".join(text.split())[:300]
        return text.replace(self.key, "***") if self.key else text


def pause_before(attempt: int, asked: float | None, jitter: random.Random) -> float:
    """Seconds to wait before the next attempt: what the endpoint asks, else 1, 2, 4, … with jitter, at most 60."""
    backoff = min(_LONGEST_PAUSE, 2.0**attempt) * jitter.uniform(0.5, 1.0)
    return backoff if asked is None else min(_LONGEST_PAUSE, asked)


def _read(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(2000)
    except (OSError, http.client.HTTPException):
        return b""


def _message(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    try:
        error = json.loads(text).get("error")
    except (ValueError, AttributeError):
        return text
    return str(error.get("message", error)) if isinstance(error, dict) else str(error or text)


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None  # a date; the backoff serves as well
