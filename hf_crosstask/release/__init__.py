"""What a finished run gives to others: cards, pushed adapters, exports, benchmarks, and an API reference point."""

from __future__ import annotations
