"""The training plan (pure functions of example lengths) and the ledger of tokens actually seen."""

from __future__ import annotations

from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.ledger import TokenLedger
from hf_crosstask.planning.mixing import Mixing
from hf_crosstask.planning.plan import MicroBatch, TrainingPlan, plan

__all__ = ["Budget", "MicroBatch", "Mixing", "TokenLedger", "TrainingPlan", "plan"]
