from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_crosstask.errors import InputError


def one_by_one(model, rows, task):
    """Logits of each row, run alone."""
    model.eval()
    with torch.no_grad():
        logits = []
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            logits.append(model(ids, torch.ones_like(ids), task=task).logits[0].numpy())
    return logits


def accuracy(output):
    return {"accuracy": float((output.predictions.argmax(-1) == output.label_ids)[output.label_ids != -100].mean())}


def constant(value):
    return lambda output: {"other": 9.0, "score": value}


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_predictions_come_in_row_order(make_trainer, eval_data, batch_tokens):
    trainer = make_trainer(eval_batch_tokens=batch_tokens)
    outputs = trainer.predict(eval_data)
    assert list(outputs) == ["ner", "cls"]
    for task, rows in eval_data.items():
        for number, alone in enumerate(one_by_one(trainer.model, rows, task)):
            logits, labels = outputs[task].predictions[number], outputs[task].label_ids[number]
            if task == "ner":
                assert (labels[len(alone) :] == -100).all()
                logits, labels = logits[: len(alone)], labels[: len(alone)]
            np.testing.assert_allclose(logits, alone, atol=1e-5)
            assert labels.tolist() == rows[number]["labels"]
        assert outputs[task].predictions.dtype == np.float32


def test_the_loss_does_not_depend_on_batches(make_trainer, eval_data):
    trainer = make_trainer()
    expected = {}
    for task, rows in eval_data.items():
        logits = np.concatenate([np.atleast_2d(each) for each in one_by_one(trainer.model, rows, task)])
        labels = np.concatenate([np.atleast_1d(row["labels"]) for row in rows])
        expected[task] = float(cross_entropy(torch.tensor(logits), torch.tensor(labels), ignore_index=-100))
    for batch_tokens in (1, 100):
        trainer.args.eval_batch_tokens = batch_tokens
        metrics = trainer.evaluate(eval_data)
        assert metrics["eval_ner_loss"] == pytest.approx(expected["ner"], abs=1e-5)
        assert metrics["eval_cls_loss"] == pytest.approx(expected["cls"], abs=1e-5)
        assert metrics["eval_loss"] == pytest.approx(np.mean(list(expected.values())), abs=1e-5)


def test_one_set_of_metrics_with_the_macro_score(make_trainer, eval_data):
    from transformers import TrainerCallback

    seen = []

    class See(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **_):
            seen.append(metrics)

    trainer = make_trainer(eval_dataset=eval_data, compute_metrics=accuracy, callbacks=[See()])
    metrics = trainer.evaluate()
    assert len(seen) == 1
    assert seen[0] is metrics
    assert metrics["eval_macro_score"] == pytest.approx(
        (metrics["eval_ner_accuracy"] + metrics["eval_cls_accuracy"]) / 2
    )
    assert metrics["eval_ner_accuracy"] != metrics["eval_cls_accuracy"]


def test_each_task_has_its_own_metrics(make_trainer, eval_data):
    functions = {"ner": constant(0.2), "cls": constant(0.6)}
    trainer = make_trainer(
        eval_dataset=eval_data, compute_metrics=functions, primary_metrics={"ner": "score", "cls": "score"}
    )
    metrics = trainer.evaluate()
    assert metrics["eval_ner_score"] == 0.2
    assert metrics["eval_cls_score"] == 0.6
    assert metrics["eval_macro_score"] == pytest.approx(0.4)
    assert make_trainer(eval_dataset=eval_data, compute_metrics=functions).evaluate()["eval_macro_score"] == 9.0
    only_one = make_trainer(eval_dataset=eval_data, compute_metrics={"cls": accuracy}).evaluate(
        metric_key_prefix="dev"
    )
    assert only_one["dev_macro_score"] == only_one["dev_cls_accuracy"]
    assert "dev_ner_accuracy" not in only_one
    assert "dev_ner_loss" in only_one


def test_an_unknown_primary_metric_is_refused(make_trainer, eval_data):
    trainer = make_trainer(eval_dataset=eval_data, compute_metrics=constant(1.0), primary_metrics={"cls": "scores"})
    with pytest.raises(InputError, match="primary_metrics: task cls: unknown metric 'scores'; did you mean 'score'"):
        trainer.evaluate()


def test_bare_rows_are_those_of_the_only_task(make_trainer, eval_data, train_data):
    trainer = make_trainer(train_dataset={"ner": train_data["ner"]}, compute_metrics=accuracy)
    mapped = trainer.evaluate({"ner": eval_data["ner"]})
    bare = trainer.evaluate(eval_data["ner"])
    assert bare["eval_ner_accuracy"] == mapped["eval_ner_accuracy"]
    output = trainer.predict(eval_data["ner"])
    assert output.metrics["test_accuracy"] == mapped["eval_ner_accuracy"]
    assert len(trainer.get_test_dataloader(eval_data["ner"])) > 0


def test_bare_rows_of_many_tasks_are_refused(make_trainer, eval_data):
    trainer = make_trainer()
    for call in (trainer.predict, trainer.evaluate):
        with pytest.raises(InputError) as error:
            call(eval_data["ner"])
        assert str(error.value) == ("which task are these rows of? pass {task: dataset} with a task among ner, cls")


def test_rows_without_labels_are_predicted(make_trainer, eval_data):
    trainer = make_trainer(compute_metrics=accuracy)
    rows = {task: dataset.remove_columns("labels") for task, dataset in eval_data.items()}
    outputs = trainer.predict(rows)
    with_labels = trainer.predict(eval_data)
    for task, output in outputs.items():
        np.testing.assert_array_equal(output.predictions, with_labels[task].predictions)
        assert output.label_ids is None
        assert output.metrics == {}


def test_logits_are_reduced_before_they_are_kept(make_trainer, eval_data):
    trainer = make_trainer(preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1))
    reduced, full = trainer.predict(eval_data), make_trainer().predict(eval_data)
    for task in eval_data:
        kept = full[task].label_ids != -100
        assert reduced[task].predictions.dtype == np.int64
        np.testing.assert_array_equal(reduced[task].predictions[kept], full[task].predictions.argmax(-1)[kept])


def test_dataloaders_by_task(make_trainer, eval_data):
    trainer = make_trainer(eval_dataset=eval_data)
    assert sum(len(batch.rows) for batch in trainer.get_eval_dataloader("cls")) == len(eval_data["cls"])
    with pytest.raises(InputError, match="which task"):
        trainer.get_eval_dataloader()
    only = make_trainer(train_dataset=None, eval_dataset={"cls": eval_data["cls"]})
    assert only.get_eval_dataloader().task == "cls"
    with pytest.raises(ValueError, match="requires an eval_dataset"):
        make_trainer().evaluate()
