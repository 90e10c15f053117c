from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from hf_crosstask.errors import LedgerMismatchError
from hf_crosstask.evaluation.energy import PARTIAL, UNREADABLE, Counter, EnergyMeter
from hf_crosstask.evaluation.result import EnergyUse
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import plan
from hf_crosstask.training.accounts import RunAccounts
from hf_crosstask.training.checkpoint import Progress

CPU = torch.device("cpu")
TASKS = ("ner", "cls")


@pytest.fixture
def made():
    return plan({"ner": [5] * 6, "cls": [4] * 3}, budget=Budget(epochs=1), tokens_per_step=42)


def record(accounts, task, examples, tokens, items, loss):
    accounts.record(task, np.array([examples, tokens, tokens + 2, items]), torch.tensor(loss))


def test_losses_are_means_over_items(made):
    accounts = RunAccounts(TASKS, CPU)
    record(accounts, "ner", 1, 5, 10, 0.5)
    record(accounts, "ner", 1, 5, 30, 0.1)
    assert accounts.window_losses() == pytest.approx({"ner": 0.2})
    record(accounts, "ner", 1, 5, 40, 0.4)
    record(accounts, "cls", 1, 4, 1, 2.0)
    assert accounts.window_losses() == pytest.approx({"ner": 0.4, "cls": 2.0})
    assert accounts.window_losses() == {}
    assert accounts.mean_losses() == pytest.approx({"ner": 0.3, "cls": 2.0})


def test_counts_losses_and_time_go_on_after_a_resume(made):
    first = RunAccounts(TASKS, CPU)
    first.start()
    record(first, "ner", 6, 30, 30, 0.5)
    record(first, "cls", 3, 12, 3, 1.0)
    progress = first.progress(made, 1, "recipe")
    assert (progress.step, progress.plan, progress.run) == (1, made.fingerprint, "recipe")
    assert progress.threads == torch.get_num_threads()
    assert progress.ledger["ner"] == {"examples": 6, "tokens": 30, "padded": 32, "supervised": 30}

    second = RunAccounts(TASKS, CPU, progress=progress)
    assert second.ledger().by_task() == first.ledger().by_task()
    assert second.window_losses() == {}
    record(second, "ner", 1, 5, 10, 0.9)
    assert second.ledger().by_task()["ner"]["tokens"] == 35
    assert second.mean_losses() == pytest.approx({"ner": 0.6, "cls": 1.0})
    assert second.seconds == progress.seconds


def test_energy_goes_on_after_a_resume(made):
    counted = {"cpu": 0.0}

    def accounts(progress=None, counters=("cpu",)):
        meter = EnergyMeter(
            {part: [Counter(lambda: counted["cpu"])] if part in counters else [] for part in ("cpu", "gpu")}
        )
        return RunAccounts(TASKS, CPU, progress=progress, meter=meter)

    first = accounts()
    record(first, "ner", 6, 30, 30, 0.5)
    record(first, "cls", 3, 12, 3, 1.0)
    first.start()
    counted["cpu"] += 5.0
    progress = first.progress(made, 1, "recipe")
    counted["cpu"] += 100.0  # after the checkpoint, and lost with the kill
    first.stop()
    second = accounts(Progress.model_validate_json(progress.model_dump_json()))
    second.start()
    counted["cpu"] += 2.0
    second.stop()
    counted["cpu"] += 50.0
    assert second.energy() == EnergyUse(joules={"cpu": 7.0, "gpu": None}, missing={"gpu": UNREADABLE})
    assert second.energy().watt_hours == 7 / 3600
    # Where one session was not measured, the others are not given for the whole.
    elsewhere = accounts(progress, counters=())
    assert elsewhere.energy() == EnergyUse(
        joules=dict.fromkeys(("cpu", "gpu")), missing=dict.fromkeys(("cpu", "gpu"), UNREADABLE)
    )
    assert elsewhere.energy().watt_hours is None
    older = accounts(progress.model_copy(update={"energy": {}}))
    assert older.energy().missing == {"cpu": PARTIAL, "gpu": UNREADABLE}


def test_no_progress_that_differs_from_the_plan(made):
    accounts = RunAccounts(TASKS, CPU)
    record(accounts, "ner", 6, 29, 30, 0.5)
    with pytest.raises(LedgerMismatchError, match="task ner was planned to have seen 6 examples and 30 tokens, but 6"):
        accounts.progress(made, 1, "")


def test_the_clock_runs_between_start_and_stop():
    accounts = RunAccounts(TASKS, CPU)
    assert accounts.seconds == 0
    accounts.start()
    time.sleep(0.02)
    assert accounts.seconds >= 0.02
    accounts.stop()
    stopped = accounts.seconds
    time.sleep(0.02)
    assert accounts.seconds == stopped >= 0.02
