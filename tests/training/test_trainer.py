from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForTokenClassification, LlamaConfig, LlamaForCausalLM, TrainerCallback

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.errors import InputError, LedgerMismatchError, PlanError
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import plan
from hf_crosstask.training.rows import token_lengths


def run_step(trainer, number):
    """Loss and gradients of one step, on the weights as they are."""
    loader = trainer.get_train_dataloader()
    trainer.state.global_step = number
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, loader.dataset[number])
    return float(loss), {
        name: None if p.grad is None else p.grad.clone()
        for name, p in trainer.model.named_parameters()
        if p.requires_grad
    }


def differ(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one if one[name] is not None)


@pytest.fixture
def log():
    class Log(TrainerCallback):
        def __init__(self):
            self.logs, self.evaluations = [], []

        def on_log(self, args, state, control, logs, **_):
            self.logs.append((state.global_step, dict(logs)))

        def on_evaluate(self, args, state, control, metrics, **_):
            self.evaluations.append((state.global_step, dict(metrics)))

    return Log()


# ---- One step ----


def test_a_step_does_not_depend_on_how_micro_batches_cut_it(make_trainer, make_model):
    whole = make_trainer(make_model(dropout=0.0), tokens_per_step=256)
    cut = make_trainer(make_model(dropout=0.0), tokens_per_step=256, micro_batch_tokens=32)
    assert len(cut.plan.step(1)) > 2 * len(whole.plan.step(1))
    loss, gradients = run_step(whole, 1)
    loss_cut, gradients_cut = run_step(cut, 1)
    assert loss_cut == pytest.approx(loss, abs=1e-6)
    assert differ(gradients, gradients_cut) < 1e-6


@pytest.mark.parametrize("rule", ["share", "equal", {"ner": 1.0, "cls": 3.0}])
def test_loss_is_the_weighted_sum_of_task_means(make_trainer, make_model, train_data, rule):
    trainer = make_trainer(make_model(dropout=0.0), tokens_per_step=256, micro_batch_tokens=40, loss_weights=rule)
    loss, gradients = run_step(trainer, 2)

    rows = {"ner": [], "cls": []}
    for batch in trainer.plan.step(2):
        rows[batch.task] += batch.examples.tolist()
    tokens = {task: sum(len(train_data[task][row]["input_ids"]) for row in rows[task]) for task in rows}
    assert tokens == trainer.plan.step_tokens(2)
    weight = {"share": tokens, "equal": {"ner": 1, "cls": 1}}.get(rule) if isinstance(rule, str) else rule
    model = trainer.model.eval()
    model.zero_grad()
    total = torch.zeros(())
    for task in rows:
        logits, labels = [], []
        for row in rows[task]:  # one example at a time: no padding, no batch
            example = train_data[task][row]
            ids = torch.tensor([example["input_ids"]])
            logits.append(model(ids, torch.ones_like(ids), task=task).logits.flatten(0, -2))
            labels.append(torch.tensor(example["labels"]).flatten())
        mean = cross_entropy(torch.cat(logits), torch.cat(labels), ignore_index=-100)
        total = total + mean * weight[task] / sum(weight.values())
    total.backward()
    by_hand = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert loss == pytest.approx(total.item(), abs=1e-6)
    assert differ(gradients, by_hand) < 1e-6


def test_heads_of_absent_tasks_keep_no_gradient(make_trainer, train_data):
    trainer = make_trainer(tokens_per_step=26, micro_batch_tokens=26)
    step = next(s for s in range(trainer.plan.num_steps) if list(trainer.plan.step_tokens(s)) == ["ner"])
    _, gradients = run_step(trainer, step)
    assert all(gradient is None for name, gradient in gradients.items() if name.startswith("heads.cls"))
    assert all(gradient is not None for name, gradient in gradients.items() if not name.startswith("heads.cls"))


def test_the_optimizer_leaves_heads_of_absent_tasks_alone(make_trainer, make_model, train_data, weights):
    trainer = make_trainer(train_dataset={"ner": train_data["ner"]}, num_train_epochs=1, weight_decay=0.5)
    before = weights(trainer)
    trainer.train()
    changed = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith("heads.cls")}


def test_dropout_depends_on_seed_and_micro_batch_alone(make_trainer, make_model):
    trainer = make_trainer(make_model(dropout=0.3))
    torch.manual_seed(1)
    loss, gradients = run_step(trainer, 4)
    torch.manual_seed(2)
    run_step(trainer, 0)
    again, gradients_again = run_step(trainer, 4)
    assert again == loss
    assert differ(gradients, gradients_again) == 0
    other_seed = make_trainer(make_model(dropout=0.3), seed=4, data_seed=3)
    assert other_seed.plan.fingerprint == trainer.plan.fingerprint
    assert run_step(other_seed, 4)[0] != loss


def test_each_micro_batch_draws_its_own_dropout(make_trainer, make_model, token_rows):
    row = token_rows(1, 5)[0]
    trainer = make_trainer(
        make_model(dropout=0.3), train_dataset={"ner": Dataset.from_list([row] * 2)}, num_train_epochs=1
    )
    loader = trainer.get_train_dataloader()
    (fed,) = loader.dataset[0]
    losses = []
    for number in (0, 1, 0):
        fed.planned = type(fed.planned)(number, "ner", fed.planned.examples, fed.planned.tokens, fed.planned.padded)
        losses.append(float(trainer.training_step(trainer.model, [fed])))
    assert losses[0] == losses[2] != losses[1]


def test_evaluation_does_not_change_training(make_trainer, eval_data, weights, same):
    plain = make_trainer(max_steps=6)
    plain.train()
    evaluated = make_trainer(max_steps=6, eval_dataset=eval_data, eval_strategy="steps", eval_steps=1)
    evaluated.train()
    assert same(weights(plain), weights(evaluated))


def test_workers_feed_the_same_steps(make_trainer, weights, same):
    plain = make_trainer(max_steps=4)
    plain.train()
    fed = make_trainer(max_steps=4, dataloader_num_workers=1)
    fed.train()
    assert same(weights(plain), weights(fed))


def test_activation_checkpointing_gives_the_same_gradients(make_trainer, make_model):
    plain = make_trainer(make_model())
    recomputed = make_trainer(make_model())
    recomputed.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    loss, gradients = run_step(plain, 1)
    loss_recomputed, gradients_recomputed = run_step(recomputed, 1)
    assert loss == loss_recomputed
    assert differ(gradients, gradients_recomputed) < 1e-6


# ---- The plan and the ledger ----


def test_what_is_counted_is_what_was_planned(make_trainer, train_data, log):
    trainer = make_trainer(num_train_epochs=2, logging_strategy="steps", logging_steps=5, callbacks=[log])
    trainer.train()
    planned = trainer.plan.summary()["tasks"]
    for task, counts in trainer.ledger.by_task().items():
        labels = [np.atleast_1d(row) for row in train_data[task]["labels"]]
        assert counts == {
            "examples": 2 * len(train_data[task]),
            "tokens": 2 * sum(map(len, train_data[task]["input_ids"])),
            "padded": planned[task]["padded_tokens"],
            "supervised": 2 * sum(int((row != -100).sum()) for row in labels),
        }
    assert trainer.state.global_step == trainer.state.max_steps == trainer.plan.num_steps
    assert trainer.state.epoch == 2
    after = trainer.plan.tokens_after_step
    for step, logs in log.logs:
        if "loss" in logs:
            assert logs["tokens_ner"] == after[step, 0]
            assert logs["tokens_cls"] == after[step, 1]
            assert logs["num_input_tokens_seen"] == after[step].sum()
            assert logs["epoch"] == pytest.approx(after[step].sum() / trainer.plan.tokens_per_pass)
            assert 0 < logs["loss_ner"] < 5
            assert 0 < logs["loss_cls"] < 5
    assert trainer.accounts.mean_losses().keys() == train_data.keys()


def test_the_schedule_is_over_the_true_number_of_steps(make_trainer):
    trainer = make_trainer(token_budget=1000, learning_rate=1e-2)
    rates = []

    class Rates(TrainerCallback):
        def on_step_end(self, args, state, control, lr_scheduler, **_):
            rates.append(lr_scheduler.get_last_lr()[0])

    trainer.add_callback(Rates())
    trainer.train()
    steps = trainer.plan.num_steps
    assert trainer.plan.total_tokens == 1000
    assert rates == pytest.approx([1e-2 * (1 - (step + 1) / steps) for step in range(steps)])


@pytest.mark.parametrize("lose", ["token", "example"])
def test_a_collator_that_loses_tokens_is_an_error(make_trainer, lose):
    collate = MultiTaskCollator(0)

    def lossy(rows):
        batch = collate(rows)
        if lose == "example":
            return {name: values[:-1] for name, values in batch.items()}
        batch["attention_mask"][0, 0] = 0
        return batch

    trainer = make_trainer(data_collator=lossy)
    with pytest.raises(LedgerMismatchError) as error:
        trainer.train()
    assert str(error.value).startswith("step 1: a micro-batch of ")
    assert "does not give what the plan was made from" in str(error.value)


def test_a_given_plan_is_executed(make_trainer, train_data, weights, same):
    lengths = {task: token_lengths(rows, task) for task, rows in reversed(train_data.items())}
    given = plan(lengths, budget=Budget(steps=4), tokens_per_step=200, seed=9)
    trainer = make_trainer(plan=given)
    trainer.train()
    assert trainer.state.global_step == 4
    assert {task: row["tokens"] for task, row in trainer.ledger.by_task().items()} == given.tokens_by_task


def test_a_plan_of_other_data_is_refused(make_trainer, train_data):
    with pytest.raises(PlanError) as error:
        make_trainer(plan=plan({"ner": [5] * 60}, budget=Budget(epochs=1)))
    assert str(error.value) == (
        "the plan is of other data: it has examples {'ner': 60}, train_dataset has {'ner': 60, 'cls': 40}"
    )


def test_a_dataset_that_is_not_encoded_is_refused(make_trainer):
    trainer = make_trainer(train_dataset={"ner": Dataset.from_dict({"text": ["a"]})})
    with pytest.raises(InputError, match="the dataset of task ner has no input_ids"):
        trainer.train()


# ---- Arguments that are refused ----


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"train_dataset": {"nre": [0]}}, "the model has no head for it: unknown task 'nre'; did you mean 'ner'?"),
        ({"eval_dataset": {"nre": [0]}}, "the model has no head for it: unknown task 'nre'; did you mean 'ner'?"),
        ({"compute_metrics": {"clss": len}}, "compute_metrics: unknown task 'clss'; did you mean 'cls'?"),
        ({"primary_metrics": {"clss": "f1"}}, "primary_metrics: unknown task 'clss'; did you mean 'cls'?"),
        ({"loss_weights": {"ner": 1, "clss": 1}}, "loss_weights: unknown task 'clss'; did you mean 'cls'?"),
        ({"loss_weights": {"ner": 1}}, "loss_weights names no weight for cls"),
        (
            {"loss_weights": "shared"},
            "loss_weights is 'shared'; it is 'share', 'equal', 'uncertainty', 'dwa' or a weight for each task",
        ),
        (
            {"compute_loss_func": len},
            "compute_loss_func has no effect: override compute_loss, a mean over labelled items",
        ),
        (
            {"data_collator": None},
            "give processing_class (the tokenizer) or data_collator: batches need a padding token",
        ),
    ],
)
def test_refused(make_trainer, keywords, message):
    with pytest.raises(InputError) as error:
        make_trainer(**keywords)
    assert str(error.value) == message


def test_one_process_uses_one_gpu(make_trainer):
    trainer = make_trainer(max_steps=2)
    trainer.args._n_gpu = 2  # as on a machine with two GPUs
    again = type(trainer)(
        model=trainer.model, args=trainer.args, data_collator=MultiTaskCollator(0), train_dataset=trainer.train_dataset
    )
    again.train()
    assert not isinstance(again.model_wrapped, nn.DataParallel)


def test_columns_the_model_does_not_take_are_dropped_unless_asked_for(make_trainer, token_rows):
    rows = token_rows(20, 0).add_column("note", ["x"] * 20)
    seen = set()
    collate = MultiTaskCollator(0)

    def look(batch):
        seen.update(batch[0])
        return collate(batch)

    make_trainer(train_dataset={"ner": rows}, data_collator=look, max_steps=1).train()
    assert seen == {"input_ids", "attention_mask", "labels"}
    make_trainer(train_dataset={"ner": rows}, data_collator=look, max_steps=1, remove_unused_columns=False).train()
    assert "note" in seen


# ---- Plain transformers models ----


def hand_loss(model, rows, *, shifted):
    logits, labels = [], []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        target = torch.tensor(row["labels"])
        logits.append(out[:-1] if shifted else out)
        labels.append(target[1:] if shifted else target)
    return cross_entropy(torch.cat(logits), torch.cat(labels), ignore_index=-100)


def tiny_llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.2,
            use_cache=False,
        )
    )


def tiny_bert():
    torch.manual_seed(0)
    return BertForTokenClassification(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.2,
            num_labels=50,
        )
    )


@pytest.fixture
def masked_prompts():
    """Rows whose first part carries no label; two of them none at all."""
    generator = np.random.default_rng(4)
    rows = []
    for number in range(30):
        ids = generator.integers(5, 50, int(generator.integers(4, 25))).tolist()
        masked = len(ids) if number in (3, 8) else int(generator.integers(0, len(ids) - 1))
        rows.append({"input_ids": ids, "labels": [-100] * masked + ids[masked:]})
    return Dataset.from_list(rows)


@pytest.mark.parametrize(("build", "shifted"), [(tiny_bert, False), (tiny_llama, True)])
def test_plain_model_step_equals_the_mean_by_hand(make_trainer, masked_prompts, build, shifted):
    model = build()
    trainer = make_trainer(model, train_dataset=masked_prompts, tokens_per_step=128, micro_batch_tokens=40)
    for step in (0, 1):
        loss, gradients = run_step(trainer, step)
        rows = [masked_prompts[row] for batch in trainer.plan.step(step) for row in batch.examples.tolist()]
        model.zero_grad()
        by_hand = hand_loss(model.eval(), rows, shifted=shifted)
        by_hand.backward()
        assert loss == pytest.approx(by_hand.item(), abs=1e-6)
        assert differ(gradients, {name: p.grad for name, p in model.named_parameters()}) < 1e-6


@pytest.mark.parametrize(("build", "shifted"), [(tiny_bert, False), (tiny_llama, True)])
def test_plain_model_evaluation_equals_the_mean_by_hand(make_trainer, masked_prompts, build, shifted):
    trainer = make_trainer(build(), train_dataset=masked_prompts, eval_batch_tokens=50)
    metrics = trainer.evaluate(masked_prompts)
    with torch.no_grad():
        by_hand = hand_loss(trainer.model.eval(), masked_prompts, shifted=shifted)
    assert metrics["eval_loss"] == pytest.approx(by_hand.item(), abs=1e-5)


def test_a_plain_peft_model_trains_and_resumes(make_trainer, token_rows, weights, same, tmp_path):
    def build():
        config = LoraConfig(TaskType.TOKEN_CLS, r=2, target_modules=["query"], modules_to_save=["classifier"])
        return get_peft_model(tiny_bert(), config)

    data = token_rows(20)
    settings = {"train_dataset": data, "eval_dataset": data, "num_train_epochs": 4, "save_strategy": "steps"}
    trainer = make_trainer(build(), save_steps=3, **settings)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 0.1
    last = f"{trainer.args.output_dir}/checkpoint-{trainer.plan.num_steps}"
    shutil.rmtree(last)
    resumed = make_trainer(build(), save_steps=3, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert same(weights(trainer), weights(resumed))
    trainer.save_model(str(tmp_path / "saved"))
    loaded = PeftModel.from_pretrained(tiny_bert(), tmp_path / "saved").eval()
    ids = torch.tensor([data[0]["input_ids"]])
    torch.testing.assert_close(loaded(ids).logits, trainer.model.eval()(ids).logits)


@pytest.mark.parametrize("build", [tiny_bert, tiny_llama])
def test_micro_batches_without_a_label_are_harmless(make_trainer, masked_prompts, build, tmp_path):
    trainer = make_trainer(
        build(),
        train_dataset=masked_prompts,
        eval_dataset=masked_prompts.select([3, 8, 9]),
        eval_batch_tokens=1,
        num_train_epochs=1,
        tokens_per_step=25,
        micro_batch_tokens=25,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="epoch",
    )
    trainer.train()
    losses = [logs["loss"] for logs in trainer.state.log_history if "loss" in logs]
    assert np.isfinite(losses).all()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert np.isfinite(trainer.accounts.mean_losses()["task"])
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_a_plain_model_learns_several_tasks_of_one_kind(make_trainer, token_rows):
    data = {"first": token_rows(20, 0), "second": token_rows(30, 1)}
    trainer = make_trainer(tiny_bert(), train_dataset=data, eval_dataset=data, num_train_epochs=8)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_first_loss"] < before["eval_first_loss"] - 0.1
    assert after["eval_loss"] == pytest.approx((after["eval_first_loss"] + after["eval_second_loss"]) / 2)


# ---- Saving a model ----


def test_save_model_writes_adapters_heads_and_tokenizer_but_no_pickle(make_trainer, tmp_path):
    saved = []
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=None, save_pretrained=saved.append)
    trainer = make_trainer(processing_class=tokenizer)
    trainer.save_model(str(tmp_path / "saved"))
    files = {path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.*")}
    assert {
        "adapters/shared/adapter_model.safetensors",
        "adapters/shared/adapter_config.json",
        "heads/ner.safetensors",
        "heads/cls.safetensors",
    } <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth"))]
    assert saved == [str(tmp_path / "saved")]


def test_save_model_of_a_plain_model_is_a_plain_model(make_trainer, tmp_path, token_rows):
    trainer = make_trainer(tiny_bert(), train_dataset=token_rows(5))
    trainer.save_model(str(tmp_path / "saved"))
    again = BertForTokenClassification.from_pretrained(tmp_path / "saved")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in trainer.model.state_dict().items())
