"""The study: arms, controls, statistics of transfer, and the verdict."""

from __future__ import annotations
