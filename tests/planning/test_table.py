from __future__ import annotations

import io

import numpy as np

from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import plan
from hf_crosstask.planning.table import print_plan


def printed(summary) -> str:
    out = io.StringIO()
    print_plan(summary, out)
    return out.getvalue()


def test_one_row_a_task_and_a_total():
    lengths = {"bc2gm": np.full(1000, 10), "chemprot": np.full(100, 20)}
    made = plan(lengths, budget=Budget(epochs=3), tokens_per_step=600)
    text = printed(made.summary())
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    }
    assert f"plan {made.fingerprint[:12]}: 60 steps, 36,000 forward tokens" in text
    assert rows["bc2gm"][:5] == ["1,000", "30,000", "83.3%", "3.00", "3"]
    assert rows["chemprot"][:5] == ["100", "6,000", "16.7%", "3.00", "3"]
    assert rows["total"][:3] == ["1,100", "36,000", "100.0%"]
    assert rows["total"][5:] == [f"{made.num_micro_batches:,}", "0.0%"]
    assert "tokens from the budget" not in text
    assert text.isascii()


def test_a_missed_budget_is_said():
    made = plan({"a": [10, 10, 10]}, budget=Budget(tokens=25), tokens_per_step=30)
    assert "-5 tokens from the budget of 25: no set of examples sums to it" in printed(made.summary())


def test_a_task_without_a_visit_has_no_padding():
    lengths = {"long": [100], "short": [10] * 50}
    made = plan(lengths, budget=Budget(tokens=90), tokens_per_step=100)
    assert made.tokens_by_task == {"long": 0, "short": 90}
    row = next(line for line in printed(made.summary()).splitlines() if line.startswith("| long"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["1", "0", "0.0%", "0.00", "0", "0", "-"]
