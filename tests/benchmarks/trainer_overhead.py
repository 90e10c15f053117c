"""What `MultiTaskTrainer` costs on top of the model: by part, and against a bare loop on the same micro-batches.

    python tests/benchmarks/trainer_overhead.py --data-dir ../shared/data          # LoRA, as recipes/blurb_s2.json
    python tests/benchmarks/trainer_overhead.py --data-dir ../shared/data --full   # everything trains

BC2GM + ChemProt + PubMedQA on the MiniLM encoder, CPU, fp32. Every part of a step is timed inside one run of the
trainer, so the model's own fluctuations cancel: overhead is everything of a step that is not forward, backward,
clipping, optimizer or clearing gradients. Turns of a bare loop over the very same micro-batches, from memory, alternate
with turns of the trainer as a cross-check; it is far noisier.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import Any
from unittest.mock import patch

import torch
from accelerate.optimizer import AcceleratedOptimizer
from meter import Meter
from mixture import RealMixture, add_data_dir, load_real_mixture
from transformers import PrinterCallback

from hf_crosstask.evaluation.environment import hardware
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.training import feed as feed_module
from hf_crosstask.training import trainer as trainer_module
from hf_crosstask.training.accounts import RunAccounts
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.feed import Fed
from hf_crosstask.training.trainer import MultiTaskTrainer

#: Of issue 2, Show 7.
TARGET = 0.02
MODEL = ("forward", "backward", "clipping", "optimizer", "clearing gradients")
REST = "the rest of transformers' loop"
_WARM_UP = 1


class PartClock:
    """Time spent in each part of a step, without the parts inside it.

    Parts are methods and functions replaced by timed ones until `stack` closes.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack = stack
        self._inner = [0.0]

    def time(self, owner: Any, name: str, part: str) -> None:
        """Replace `owner.name` by a timed one."""
        self._stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name), part)))

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[part] += took - self._inner.pop()
                self._inner[-1] += took

        return timed


@dataclass(frozen=True)
class Overhead:
    """One turn of the trainer and one of the bare loop, over the same micro-batches.

    Attributes:
        parts: seconds of the trainer's turn by part.
        seconds: of the trainer's turn.
        bare: of the bare loop's turn.
        steps: measured steps.
    """

    parts: Mapping[str, float]
    seconds: float
    bare: float
    steps: int

    @property
    def model(self) -> float:
        return sum(self.parts[part] for part in MODEL)

    @property
    def share(self) -> float:
        """What the trainer adds to the model's time."""
        return self.seconds / self.model - 1


def measure(
    mixture: RealMixture, model: MultiTaskModel, options: argparse.Namespace, folder: str, seed: int
) -> Overhead:
    """Both turns."""
    trainer = MultiTaskTrainer(
        model=model,
        args=MultiTaskTrainingArguments(
            folder,
            num_train_epochs=1,
            tokens_per_step=options.tokens_per_step,
            micro_batch_tokens=options.micro_batch_tokens,
            data_seed=seed,
            use_cpu=True,
            learning_rate=1e-4,
            logging_steps=options.logging_steps,
            save_strategy="no",
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=mixture.datasets,
        processing_class=mixture.tokenizer,
    )
    feed: Any = trainer.get_train_dataloader().dataset
    steps = range(_WARM_UP, _WARM_UP + options.steps)
    micro_batches = [[(fed, trainer.loss_scales(step)) for fed in feed[step]] for step in steps]
    bare = _bare_seconds(model, micro_batches)
    with ExitStack() as stack:
        clock = PartClock(stack)
        meter = _ClockedMeter(clock, model.backbone, skipped=_WARM_UP, last=options.steps)
        _clock_parts(clock, trainer)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(meter)
        trainer.train()
        parts = dict(clock.seconds)
    parts[REST] = meter.turn.seconds - sum(parts.values())
    return Overhead(parts, meter.turn.seconds, bare, options.steps)


def _bare_seconds(model: MultiTaskModel, steps: Sequence[Sequence[tuple[Fed, Mapping[str, float]]]]) -> float:
    """Forward, backward, clipping and optimizer; the first step once more before the clock starts."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)  # what the Trainer's default is
    model.train()
    start = 0.0
    for number, step in enumerate([*steps[:1], *steps]):
        if number == 1:
            start = time.perf_counter()
        for fed, scales in step:
            task = fed.planned.task
            loss = model(**fed.inputs, task=task).loss
            (loss * (fed.items * scales[task])).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


class _ClockedMeter(Meter):
    """A meter that empties a clock when it starts."""

    def __init__(self, clock: PartClock, backbone: torch.nn.Module, *, skipped: int, last: int):
        super().__init__(backbone, skipped=skipped, last=last)
        self._clock = clock

    def start(self) -> None:
        self._clock.seconds.clear()
        super().start()


def _clock_parts(clock: PartClock, trainer: MultiTaskTrainer) -> None:
    for owner, name, part in (
        (feed_module.StepFeed, "__getitem__", "cutting the plan"),
        (feed_module, "fetch", "fetching rows"),
        (trainer, "data_collator", "collating"),
        (feed_module, "count", "counting tokens"),
        (trainer, "training_step", "training_step itself"),
        (trainer, "loss_scales", "loss scales"),
        (trainer, "_check_counts", "checking counts"),
        (trainer_module, "seed_dropout", "seeding dropout"),
        (trainer, "_prepare_inputs", "moving to the device"),
        (trainer, "compute_loss", "forward"),
        (trainer.accelerator, "backward", "backward"),
        (RunAccounts, "record", "accounts"),
        (trainer, "floating_point_ops", "counting operations"),
        (trainer, "_track_num_input_tokens", "counting tokens"),
        (trainer, "_clip_grad_norm", "clipping"),
        (AcceleratedOptimizer, "step", "optimizer"),
        (trainer.model, "zero_grad", "clearing gradients"),
        (trainer.callback_handler, "call_event", "callbacks"),
        (trainer, "_maybe_log_save_evaluate", "logging"),
    ):
        clock.time(owner, name, part)


def report(measured: Sequence[Overhead], options: argparse.Namespace) -> str:
    """Markdown: each part's time per step and its share of the model's time; medians over rounds."""
    model = statistics.median(each.model / each.steps for each in measured)
    lines = [
        f"{'full fine-tuning' if options.full else 'LoRA'}, {options.tokens_per_step} tokens a step, "
        f"{options.micro_batch_tokens or options.tokens_per_step} a micro-batch, {options.steps} steps a turn, "
        f"{options.rounds} rounds; {hardware()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}; {date.today()}",
        "",
        "| part | ms a step | of the model's time |",
        "|---|---|---|",
        f"| the model: {', '.join(MODEL)} | {1e3 * model:,.1f} | 100 % |",
    ]
    names = {part for each in measured for part in each.parts} - set(MODEL)
    rows = []
    for part in names:
        seconds = statistics.median(each.parts.get(part, 0.0) / each.steps for each in measured)
        share = statistics.median(each.parts.get(part, 0.0) / each.model for each in measured)
        rows.append((seconds, f"| {part} | {1e3 * seconds:,.2f} | {share:.2%} |"))
    lines += [row for _, row in sorted(rows, reverse=True)]
    shares = [each.share for each in measured]
    ratio = statistics.median(each.seconds / each.bare - 1 for each in measured)
    lines += [
        f"| overhead (target: under {TARGET:.0%}) | | {statistics.median(shares):.2%} |",
        "",
        f"Overhead of each round: {', '.join(f'{share:.2%}' for share in shares)}. The trainer's turns against those of a "
        f"bare loop: {ratio:+.1%} (noisy).",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_dir(parser)
    parser.add_argument("--full", action="store_true", help="train the whole encoder, not a LoRA adapter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="steps of a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--micro-batch-tokens", type=int, help="default: the tokens of a step")
    parser.add_argument("--logging-steps", type=int, default=20, help="as in recipes/blurb_s2.json (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mixture = load_real_mixture(options.data_dir)
    model = mixture.build_model(full=options.full)
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(mixture, model, options, folder, seed) for seed in range(options.rounds)]
    print(report(measured, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
