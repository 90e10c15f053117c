"""Data at a glance: what a recipe's tasks hold, before anything trains on them.

`build_report` counts (sizes, label balance, lengths in words and tokens, published against read counts, vocabulary and
label names that tasks share), `tables` shows a report, `write_figures` draws it.
"""

from __future__ import annotations

from hf_crosstask.data_report.collect import RecipeTokenizer, build_report
from hf_crosstask.data_report.figures import write_figures
from hf_crosstask.data_report.report import DataReport
from hf_crosstask.data_report.table import tables

__all__ = ["DataReport", "RecipeTokenizer", "build_report", "tables", "write_figures"]
