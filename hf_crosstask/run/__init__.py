"""Running a recipe: look at its data, prepare, train, evaluate, record.

Each verb is imported from its own module, `run.train` and `run.inspect_data`: looking at data needs no trainer.
"""

from __future__ import annotations
