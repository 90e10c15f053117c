"""Running a recipe: prepare, train, evaluate, record."""

from __future__ import annotations

from hf_crosstask.run.train import train

__all__ = ["train"]
