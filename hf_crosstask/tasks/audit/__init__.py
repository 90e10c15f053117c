"""Leakage audit: which evaluation examples, of any task, are in the training data of any task.

`audit_splits` compares, `purge` drops training examples that leak, `apply_policy` does what a recipe asks for
(`AuditSpec`) and raises `LeakageError` by default; `tables` shows a report.
"""

from __future__ import annotations

from hf_crosstask.tasks.audit.policy import Audited, AuditSpec, LeakageError, PurgeCounts, apply_policy, purge
from hf_crosstask.tasks.audit.report import KINDS, LEAK_KINDS, AuditReport, Overlap, SplitPair
from hf_crosstask.tasks.audit.splits import audit_splits
from hf_crosstask.tasks.audit.table import tables

__all__ = [
    "KINDS",
    "LEAK_KINDS",
    "AuditReport",
    "AuditSpec",
    "Audited",
    "LeakageError",
    "Overlap",
    "PurgeCounts",
    "SplitPair",
    "apply_policy",
    "audit_splits",
    "purge",
    "tables",
]
