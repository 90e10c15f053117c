"""Refusing to push a file that holds something like a token or a key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

#: Names what was found, never the secret itself. The literal prefixes keep the search fast on weights.
_PATTERNS = {
    "a Hugging Face token": re.compile(rb"hf_[A-Za-z0-9]{30,}"),
    "a Hugging Face organisation token": re.compile(rb"api_org_[A-Za-z0-9]{30,}"),
    "a GitHub token": re.compile(rb"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}"),
    "an OpenAI-style key": re.compile(rb"sk-[A-Za-z0-9_-]{32,}"),
    "an AWS access key": re.compile(rb"AKIA[0-9A-Z]{16}"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
#: Environment variables whose value is a secret by name.
_SECRET_NAME = re.compile(r"(TOKEN|API_?KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_SHORTEST = 12  # shorter values are words ("true", "admin") that occur anywhere
_CHUNK, _OVERLAP = 1 << 22, 512


def find_secrets(content: Path | bytes, known: frozenset[bytes]) -> list[str]:
    """What kinds of secret a file seems to hold.

    Args:
        content: the file, or its bytes.
        known: secrets of this machine (see `known_secrets`), found in any form of text.
    """
    found: dict[str, None] = {}
    for chunk in _chunks(content):
        for kind, pattern in _PATTERNS.items():
            if kind not in found and pattern.search(chunk):
                found[kind] = None
        if any(secret in chunk for secret in known):
            found["a secret of this machine (a token or key of its environment)"] = None
    return list(found)


def known_secrets(*more: str | None) -> frozenset[bytes]:
    """The secrets in the environment, and those given."""
    values = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    return frozenset(value.encode() for value in [*values, *more] if value and len(value) >= _SHORTEST)


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    """Pieces that overlap, so that nothing hides on the edge of two."""
    if isinstance(content, bytes):
        yield content
        return
    with open(content, "rb") as handle:
        tail = b""
        while piece := handle.read(_CHUNK):
            yield tail + piece
            tail = piece[-_OVERLAP:]
