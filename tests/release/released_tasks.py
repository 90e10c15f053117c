"""The tasks of the run that release tests push."""

from __future__ import annotations

TASKS = ("synthetic_ner", "synthetic_relation", "synthetic_classification")
