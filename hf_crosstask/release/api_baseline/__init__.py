"""What a commercial or self-hosted language model reaches on a recipe's tasks: a reference point, not a baseline."""

from __future__ import annotations
