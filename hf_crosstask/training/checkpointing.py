"""Checkpoints and resume of `MultiTaskTrainer`: atomic, complete, and of any number of adapters and heads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import EarlyStoppingCallback, ExportableState
from transformers.trainer_utils import SaveStrategy

from hf_crosstask.errors import CheckpointError
from hf_crosstask.models.multitask import MultiTaskModel, trainable_state
from hf_crosstask.models.precision import formats
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.training import checkpoint as checkpoints
from hf_crosstask.training.accounts import RunAccounts
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.modules import unwrap_ddp


def number_formats(args: MultiTaskTrainingArguments, model: nn.Module) -> str:
    """The numbers that a trainer computes with, in words."""
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    quantized = any(getattr(module, "is_loaded_in_4bit", False) for module in model.modules())
    return formats(precision, "nf4" if quantized else "none")


class AtomicCheckpoints(Trainer):
    """Saving and loading what trains: one safetensors file of all trained parameters, whatever adapters they are in.

    The Trainer's own way fails with several adapters (only the first is restored) and writes in place.
    """

    args: MultiTaskTrainingArguments
    accounts: RunAccounts

    @property
    def plan(self) -> TrainingPlan:
        """The plan that checkpoints belong to."""
        raise NotImplementedError  # abstract

    def progress_parts(self) -> dict[str, Any]:
        """Fields of a checkpoint's progress that the trainer adds to the accounts'."""
        return {}

    def progress_tensors(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint holds besides what trains; none for most runs."""
        return {}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Stage a checkpoint, seal it with a manifest, rename it; all processes take part."""
        self.store_flos()
        run_dir = Path(self._get_output_dir(trial=trial))
        staging = checkpoints.staging_folder(run_dir, self.state.global_step)
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        parts = self.progress_parts()
        parts["formats"] = number_formats(self.args, self.model)
        progress = self.accounts.progress(self.plan, self.state.global_step, self.args.fingerprint, **parts)
        if self.is_fsdp_enabled:
            self.save_model(str(staging), _internal_call=True)
        elif self.args.should_save:
            save_file(trainable_state(self.model), staging / checkpoints.WEIGHTS, metadata={"format": "pt"})
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(staging))
            self._save_scaler(str(staging))
            self._save_rng_state(str(staging))
        best = self._best_checkpoint(run_dir)
        if self.args.should_save:
            self._collect_callback_states()
            self.state.save_to_json(str(staging / TRAINER_STATE_NAME))
            checkpoints.write_progress(staging, progress)
            tensors = self.progress_tensors()
            if tensors:
                save_file(tensors, staging / checkpoints.CONSOLIDATION, metadata={"format": "pt"})
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.commit(staging)
            checkpoints.rotate(run_dir, self.args.save_total_limit, best)
        self.accelerator.wait_for_everyone()

    def _best_checkpoint(self, run_dir: Path) -> Path | None:
        """The checkpoint of the best evaluation so far, of those that were saved."""
        step = self.state.best_global_step
        if self.args.save_strategy != SaveStrategy.NO and step:
            best = run_dir / f"checkpoint-{step}"
            if best.exists() or step == self.state.global_step:
                self.state.best_model_checkpoint = str(best)
        kept = self.state.best_model_checkpoint
        return None if kept is None else Path(kept)

    def _collect_callback_states(self) -> None:
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                self.state.stateful_callbacks[type(callback).__name__] = callback.state()

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        """As in transformers, but callbacks go on from what they had counted (early stopping, from its patience).

        transformers forgets it, or with `restore_callback_states_from_checkpoint` replaces the caller's own objects.
        """
        start = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None:
            return start
        ended = False
        for callback in self.callback_handler.callbacks:
            stored = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and isinstance(stored, Mapping):
                for name, value in stored["attributes"].items():
                    setattr(callback, name, value)
            if isinstance(callback, EarlyStoppingCallback):
                ended |= callback.early_stopping_patience_counter >= callback.early_stopping_patience
        return (num_train_epochs, 0) if ended else start

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        self._load_trained(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
            return
        self._load_trained(Path(str(self.state.best_model_checkpoint)))

    @torch.no_grad()
    def _load_trained(self, folder: Path) -> None:
        """Copy a checkpoint's trained parameters into the model in place: the optimizer keeps its references."""
        state = load_file(folder / checkpoints.WEIGHTS)
        parameters = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        if state.keys() != parameters.keys():
            differing = sorted(state.keys() ^ parameters.keys())
            raise CheckpointError(
                f"{folder} holds other parameters than the model trains ({len(differing)} differ, {differing[0]} first)"
            )
        for name, parameter in parameters.items():
            parameter.copy_(state[name])

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """What `save_model` writes: adapters and heads (or the whole model), the tokenizer; no pickled arguments."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = unwrap_ddp(self.model)
        if isinstance(model, MultiTaskModel | PreTrainedModel | PeftModel):
            model.save_pretrained(str(folder))
        else:
            save_file(state_dict or model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
        if self.processing_class is not None:
            self.processing_class.save_pretrained(str(folder))
