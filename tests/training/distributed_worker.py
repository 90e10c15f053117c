"""A small run with dropout, evaluation and checkpoints, for one process or several; started by test_distributed.py.

Usage: distributed_worker.py OUT [--resume] [--exit-after STEP] [--terminate-after STEP] [--arguments JSON]
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import encoded_rows, tiny_model  # beside this script
from safetensors.torch import save_file
from transformers import TrainerCallback

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.models.multitask import trainable_state
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.trainer import MultiTaskTrainer


class Interrupt(TrainerCallback):
    """Die after a step, or let the last process alone receive SIGTERM."""

    def __init__(self, exit_after: int | None, terminate_after: int | None):
        self.exit_after, self.terminate_after = exit_after, terminate_after

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.exit_after:
            os._exit(9)
        if state.global_step == self.terminate_after and args.process_index == args.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def accuracy(output: Any) -> dict[str, float]:
    return {"accuracy": float((output.predictions.argmax(-1) == output.label_ids)[output.label_ids != -100].mean())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--exit-after", type=int)
    parser.add_argument("--terminate-after", type=int)
    parser.add_argument("--arguments", type=json.loads, default={})
    options = parser.parse_args()
    faulthandler.dump_traceback_later(500, exit=True)  # processes that wait for each other say where
    torch.set_num_threads(1)
    data = {"ner": encoded_rows(60, 0, tokens=True), "cls": encoded_rows(40, 1, tokens=False)}
    held_out = {"ner": encoded_rows(17, 2, tokens=True), "cls": encoded_rows(13, 3, tokens=False)}
    args = MultiTaskTrainingArguments(
        str(options.out),
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
        max_steps=10,
        tokens_per_step=160,
        micro_batch_tokens=64,
        eval_batch_tokens=64,
        learning_rate=1e-3,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=5,
        **options.arguments,
    )
    trainer = MultiTaskTrainer(
        model=tiny_model(seed=args.process_index),  # only the first process's weights may count
        args=args,
        data_collator=MultiTaskCollator(0),
        train_dataset=data,
        eval_dataset=held_out,
        compute_metrics=accuracy,
        callbacks=[Interrupt(options.exit_after, options.terminate_after)],
    )
    rank = options.out / f"rank{args.process_index}"
    rank.mkdir(parents=True, exist_ok=True)
    save_file(trainable_state(trainer.model), rank / "initial.safetensors")
    trainer.train(resume_from_checkpoint=options.resume)
    outputs: Any = trainer.predict(held_out)
    results = {
        "world_size": args.world_size,
        "backend": torch.distributed.get_backend() if torch.distributed.is_initialized() else None,
        "stopped": trainer.stopped,
        "step": trainer.state.global_step,
        "plan": trainer.plan.fingerprint,
        "ledger": trainer.ledger.by_task(),
        "losses": trainer.accounts.mean_losses(),
        "logs": [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry],
        "conflicts": trainer.gradient_conflicts,
        "weighting": trainer.task_objective.weighting.logged(),
        "stages": [scores.metrics for scores in trainer.stage_scores],
        "num_input_tokens_seen": trainer.state.num_input_tokens_seen,
    }
    save_file(trainable_state(trainer.model), rank / "weights.safetensors")
    np.savez(rank / "predictions.npz", **{task: output.predictions for task, output in outputs.items()})
    (rank / "results.json").write_text(json.dumps(results))
    trainer.accelerator.wait_for_everyone()  # none leaves while another still needs the group
    trainer.end()
    # Everything is written. torch's gloo threads now and then keep a process from freeing its group (seen twice).
    os._exit(0)


if __name__ == "__main__":
    main()
