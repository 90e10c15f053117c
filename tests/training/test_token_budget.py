from __future__ import annotations

import pytest

from hf_crosstask.errors import InputError, MatchError, PlanError
from hf_crosstask.training.arguments import MultiTaskTrainingArguments, TokenBudgetTrainingArguments
from hf_crosstask.training.token_budget import TokenBudgetTrainer


def test_a_number_of_tokens_is_hit_exactly(make_trainer, train_data):
    trainer = make_trainer(token_budget=1500, train_dataset={"ner": train_data["ner"]})
    assert isinstance(trainer, TokenBudgetTrainer)
    trainer.train()
    assert trainer.plan.target_tokens == 1500
    assert trainer.ledger.total_tokens == 1500
    assert trainer.match.model_dump() == {
        "mode": "total_tokens",
        "reference": "token_budget",
        "target": 1500,
        "difference": 0,
        "parameters": None,
    }


def test_a_finished_run_is_matched_token_for_token(make_trainer, train_data, finished_run):
    multi = make_trainer(num_train_epochs=1)
    multi.train()
    counts = {task: row["tokens"] for task, row in multi.ledger.by_task().items()}
    folder = finished_run(planned=counts)
    controlled = make_trainer(match=str(folder), train_dataset={"ner": train_data["ner"]})
    controlled.train()
    assert controlled.ledger.by_task()["ner"]["tokens"] == multi.ledger.total_tokens
    assert controlled.match.reference == str(folder)
    assert controlled.match.target == multi.ledger.total_tokens
    assert controlled.match.difference == 0
    assert controlled.plan.summary()["tasks"]["ner"]["epochs"] > 1


def test_an_unreachable_budget_is_missed_by_less_than_an_example(make_trainer):
    rows = [{"input_ids": [5] * 10, "attention_mask": [1] * 10, "labels": [0] * 10}] * 4
    trainer = make_trainer(token_budget=95, train_dataset={"ner": rows})
    trainer.train()
    assert trainer.match.difference == -5


@pytest.mark.parametrize("run", [{"status": "stopped"}, {"counted": {"ner": 699}}])
def test_an_untrustworthy_reference_is_refused_before_anything_else(make_trainer, finished_run, run):
    with pytest.raises(MatchError):
        make_trainer(match=str(finished_run(planned={"ner": 700}, **run)))


def test_an_unknown_mode_is_refused(make_trainer, finished_run):
    with pytest.raises(MatchError, match="unknown match mode 'per_task'"):
        make_trainer(match=str(finished_run(planned={"ner": 700})), match_mode="per_task")


@pytest.mark.parametrize("budget", [{}, {"match": "run", "token_budget": 5}])
def test_exactly_one_budget_is_given(tmp_path, budget):
    with pytest.raises(PlanError, match="needs either token_budget"):
        TokenBudgetTrainingArguments(str(tmp_path), use_cpu=True, **budget)


def test_other_arguments_are_refused(tmp_path, make_model):
    with pytest.raises(InputError, match="TokenBudgetTrainer needs args=TokenBudgetTrainingArguments"):
        TokenBudgetTrainer(model=make_model(), args=MultiTaskTrainingArguments(str(tmp_path), use_cpu=True))
