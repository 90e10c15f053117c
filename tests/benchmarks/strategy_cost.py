"""What gradient surgery and private adapters cost: time and memory of a step of S2 and S3a, with and without PCGrad.

    OMP_NUM_THREADS=2 python tests/benchmarks/strategy_cost.py

Four tasks, all in every step, on MiniLM (a random encoder of its size where it is not installed), CPU, fp32. Token ids
are random and lengths are those of BC2GM, ChemProt and PubMedQA (`mixture_lengths.json`), so no corpora are needed.

Every arm has its own model. In every round each arm runs the same step of one plan, the very same micro-batches, in an
order that rotates: `MultiTaskTrainer.training_step`, clipping, AdamW. Fetching and collating, which no strategy changes,
are left out. Ratios are medians of each round's own ratio.

- S2, S3a: the recipes' adapters (S3a: private adapters of half the shared one's rank), plain sum of gradients;
- + PCGrad: `gradient_surgery="pcgrad"`;
- + explicit: PCGrad as LibMTL has it: every task's forward pass first, then a backward pass each with the graphs
  retained, and projections of the flattened gradients. Without its projection of a gradient on itself, and in our task
  order, so that the first step's gradients can be compared with ours;
- + torchjd: the same with torchjd's PCGrad, where torchjd is installed (it is not on the package index);
- S2, PEFT's layers: S2 with LoRA layers that are PEFT's own, not this library's (`models/fusion.py`);
- S2, active rank and S2, total rank: one shared adapter of the rank that a task of S3a uses (16 + 8), or of the rank of
  all S3a's adapters together (16 + 4 x 8): what the architecture costs, apart from surgery.

Memory is that of tensors: what an arm holds between steps (weights, optimizer state), and on top of it the most that
torch's allocator gave out at any moment of a step, gradients included (torch.profiler's memory events). It does not
depend on what else runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from gpu_throughput import synthetic_rows
from meter import markdown
from mixture import Absent, encoder_folder, saved_lengths
from stock import use_pefts_own_layers
from torch import Tensor
from torch.nn import Parameter
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModel, BertConfig
from transformers.utils.logging import disable_progress_bar

from hf_crosstask.encoding.collator import MultiTaskCollator
from hf_crosstask.evaluation.environment import hardware
from hf_crosstask.models.adapter_layout import AdapterLayout, adapter_layout, one_shared, with_rank
from hf_crosstask.models.adapters import SHARED, LoraSettings
from hf_crosstask.models.backbone import Source, load_config
from hf_crosstask.models.build import build_model
from hf_crosstask.models.multitask import MultiTaskModel
from hf_crosstask.models.precision import resolve_precision
from hf_crosstask.recipe.schema import Strategy
from hf_crosstask.tasks.card import TaskCard, TaskSpec
from hf_crosstask.tasks.registry import resolve_card
from hf_crosstask.training.arguments import MultiTaskTrainingArguments
from hf_crosstask.training.feed import Fed, seed_dropout
from hf_crosstask.training.surgery import task_orders
from hf_crosstask.training.trainer import MultiTaskTrainer

#: Of issue 4, Show 2: step time of S3a + PCGrad over that of S2.
TARGET = 1.05
#: Tasks, and whose lengths their rows have.
TASKS = {"bc2gm": "bc2gm", "chemprot": "chemprot", "pubmedqa": "pubmedqa", "gad": "chemprot"}
ROWS = 2000
SEED = 0
#: S2 of the rank that a task of S3a uses, and of the rank of all S3a's adapters together.
ACTIVE, TOTAL, PEFTS = "S2, active rank", "S2, total rank", "S2, PEFT's layers"
_MIB = 2**20

Aggregator = Callable[[Tensor, int], Tensor]


@dataclass
class Arm:
    """One way to train, its model and optimizer, and what was measured of it.

    Attributes:
        trainer: of its own model, with its plan made.
        aggregator: of flattened gradients, for arms that combine them outside of the trainer.
        without: the arm that is the same without surgery.
        seconds, cpu_seconds: of each round.
        peak_bytes: most memory of tensors: held, and in a step.
        held_bytes: memory of tensors between steps.
    """

    trainer: MultiTaskTrainer
    aggregator: Aggregator | None = None
    without: str | None = None
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    held_bytes: int = 0

    def __post_init__(self) -> None:
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.shared = [each for group in self.model.shared_groups() for _, each in group.parameters]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=True)  # what the Trainer's default is

    @property
    def model(self) -> MultiTaskModel:
        model = self.trainer.model
        assert isinstance(model, MultiTaskModel)
        return model

    def gradients(self, step: int, batches: list[Fed]) -> None:
        """From the micro-batches to the gradients that the optimizer uses."""
        if self.aggregator is None:
            self.trainer.state.global_step = step
            self.trainer.training_step(self.model, batches)
        else:
            explicit_gradients(self, self.aggregator, step, batches)

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def step(self, step: int, batches: list[Fed]) -> None:
        self.gradients(step, batches)
        self.update()

    def timed_step(self, step: int, batches: list[Fed]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.step(step, batches)
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)

    def measure_memory(self, step: int, batches: list[Fed]) -> None:
        state = [value for each in self.optimizer.state.values() for value in each.values()]
        self.held_bytes = _bytes(chain(self.model.parameters(), self.model.buffers(), state))
        most = most_allocated(lambda: self.step(step, batches))
        self.peak_bytes = max(self.peak_bytes, self.held_bytes + most)


def explicit_gradients(arm: Arm, aggregator: Aggregator, step: int, batches: list[Fed]) -> None:
    """As LibMTL: losses of all tasks, a backward pass a task with the graphs retained, flattened gradients combined."""
    trainer, model = arm.trainer, arm.model
    scales = trainer.loss_scales(step)
    model.train()
    losses: dict[str, Tensor] = {}
    for fed in sorted(batches, key=lambda fed: trainer.plan.tasks.index(fed.planned.task)):
        task = fed.planned.task
        seed_dropout(trainer.args.seed, fed.planned.number)
        loss = trainer.compute_loss(model, {**fed.inputs, "task": task}) * (fed.items * scales[task])
        losses[task] = losses[task] + loss if task in losses else loss
    jacobian = torch.zeros(len(losses), sum(parameter.numel() for parameter in arm.shared))
    for number, loss in enumerate(losses.values()):
        loss.backward(retain_graph=number + 1 < len(losses))
        start = 0
        for parameter in arm.shared:
            if parameter.grad is not None:
                jacobian[number, start : start + parameter.numel()] = parameter.grad.flatten()
                parameter.grad = None
            start += parameter.numel()
    combined, start = aggregator(jacobian, step), 0
    for parameter in arm.shared:
        parameter.grad = combined[start : start + parameter.numel()].view_as(parameter).clone()
        start += parameter.numel()


def project(jacobian: Tensor, step: int) -> Tensor:
    """PCGrad on flattened gradients [T, P], as the paper has it: every projection a dot product and a subtraction."""
    projected = jacobian.clone()
    for task, others in enumerate(task_orders(len(jacobian), SEED, step)):
        for other in others:
            product = torch.dot(projected[task], jacobian[other])
            if product < 0:
                projected[task] -= product * jacobian[other] / (jacobian[other].norm().pow(2) + 1e-8)
    return projected.sum(0)


def torchjd_pcgrad(jacobian: Tensor, step: int) -> Tensor:
    """PCGrad of torchjd; its task order is its own."""
    from torchjd.aggregation import PCGrad

    return PCGrad()(jacobian)


def most_allocated(work: Callable[[], None]) -> int:
    """Bytes that torch's allocator has given out and not got back, at most, counted from where `work` starts.

    What was allocated before and is freed meanwhile is not subtracted (torch warns of it); a step begins without gradients.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler.kineto_results if profiler.profiler else None
    assert results is not None
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max(initial=0))


def _bytes(tensors: chain[Tensor]) -> int:
    return sum({each.data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values())


@dataclass(frozen=True)
class Setting:
    """What all arms have in common.

    Attributes:
        source: of the encoder.
        cards: the tasks.
        datasets: their rows.
        lora: the shared adapter of S2 and S3a.
        options: of the command line.
        folder: for what trainers write.
    """

    source: Source
    cards: Sequence[TaskCard]
    datasets: Mapping[str, Dataset]
    lora: LoraSettings
    options: argparse.Namespace
    folder: str

    def arm(
        self,
        layout: AdapterLayout,
        surgery: str = "none",
        aggregator: Aggregator | None = None,
        without: str | None = None,
    ) -> Arm:
        config = load_config(self.source)
        model = build_model(
            self.source,
            config,
            self.cards,
            precision=resolve_precision("fp32", torch.device("cpu")),
            lora=layout,
            head_dropout=0.1,
            seed=SEED,
        )
        arguments = MultiTaskTrainingArguments(
            self.folder,
            max_steps=1 + self.options.rounds + self.options.memory_steps,
            tokens_per_step=self.options.tokens_per_step,
            micro_batch_tokens=self.options.micro_batch_tokens,
            sampling="uniform",
            sampling_unit="tokens",
            gradient_surgery=surgery,
            seed=SEED,
            use_cpu=True,
            report_to="none",
        )
        trainer = MultiTaskTrainer(
            model, arguments, MultiTaskCollator(config.pad_token_id or 0), train_dataset=self.datasets
        )
        return Arm(trainer, aggregator, without)

    def arms(self) -> dict[str, Arm]:
        """All arms, S2 first."""
        names = [card.name for card in self.cards]
        s2 = one_shared(names, self.lora)
        s3a = adapter_layout(Strategy(name="S3a"), self.lora, dict.fromkeys(names))
        ranks = {name: adapter.r for name, adapter in s3a.adapters.items()}
        active, total = sum(ranks[name] for name in s3a.uses[names[0]]), sum(ranks.values())
        aggregators: dict[str, Aggregator] = {"explicit": project}
        if importlib.util.find_spec("torchjd") is not None:
            aggregators["torchjd"] = torchjd_pcgrad
        arms = {}
        for name, layout in (("S2", s2), ("S3a", s3a)):
            arms[name] = self.arm(layout)
            arms[f"{name} + PCGrad"] = self.arm(layout, "pcgrad", without=name)
            for how, aggregator in aggregators.items():
                arms[f"{name} + {how}"] = self.arm(layout, aggregator=aggregator, without=name)
        for name, rank in ((ACTIVE, active), (TOTAL, total)):
            arms[name] = self.arm(one_shared(names, with_rank(self.lora, rank)))
        arms[PEFTS] = self.arm(s2)
        use_pefts_own_layers(arms[PEFTS].model)
        return arms


def measure(arms: Mapping[str, Arm], rounds: int, memory_steps: int) -> float:
    """Run all arms in turn; progress goes to standard error.

    Returns:
        By how much the gradients of S2's explicit projection and PCGrad differ in the first step, relative to their norm.
    """
    feed = arms["S2"].trainer.get_train_dataloader().dataset
    for arm in arms.values():
        arm.trainer.get_train_dataloader()  # starts its surgery
        if arm.trainer.plan.fingerprint != arms["S2"].trainer.plan.fingerprint:
            raise ValueError("the arms' plans differ")
    names = list(arms)
    first: dict[str, Tensor] = {}
    for name, arm in arms.items():  # not timed
        arm.gradients(0, feed[0])
        if name in ("S2 + PCGrad", "S2 + explicit"):
            first[name] = torch.cat([_gradient(parameter) for parameter in arm.shared])
        arm.update()
    for number in range(1, rounds + 1):
        batches = feed[number]
        for name in names[number % len(names) :] + names[: number % len(names)]:
            arms[name].timed_step(number, batches)
        spent = ", ".join(f"{name} {arm.seconds[-1]:.2f}" for name, arm in arms.items())
        print(f"round {number}, s: {spent}", file=sys.stderr, flush=True)
    for number in range(rounds + 1, rounds + 1 + memory_steps):
        batches = feed[number]
        for arm in arms.values():
            arm.measure_memory(number, batches)
    ours, theirs = first["S2 + PCGrad"], first["S2 + explicit"]
    return float((ours - theirs).norm() / theirs.norm())


def _gradient(parameter: Parameter) -> Tensor:
    return torch.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.flatten().clone()


def ratio(arm: Arm, other: Arm, what: str = "seconds") -> float:
    """Median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(getattr(arm, what), getattr(other, what), strict=True))


def columns(arms: Mapping[str, Arm], adapter_bytes: int) -> dict[str, dict[str, str]]:
    """The table, as column to arm to cell."""
    base = arms["S2"]
    table: dict[str, dict[str, str]] = {}
    for name, arm in arms.items():
        plain = arms[arm.without] if arm.without else None
        over = arm.peak_bytes - base.peak_bytes
        cells = {
            "s a step": f"{statistics.median(arm.seconds):.3f}",
            "x S2": f"{ratio(arm, base):.3f}",
            "by CPU time": f"{ratio(arm, base, 'cpu_seconds'):.3f}",
            "x without surgery": f"{ratio(arm, plain):.3f}" if plain else "",
            "by CPU time, too": f"{ratio(arm, plain, 'cpu_seconds'):.3f}" if plain else "",
            "peak, MiB": f"{arm.peak_bytes / _MIB:.1f}",
            "held between steps": f"{arm.held_bytes / _MIB:.1f}",
            "over S2": f"{over / _MIB:+.1f}",
            "in shared adapters": f"{over / adapter_bytes:+.1f}",
            "over without surgery": f"{(arm.peak_bytes - plain.peak_bytes) / adapter_bytes:+.1f}" if plain else "",
        }
        for column, cell in cells.items():
            table.setdefault(column, {})[name] = cell
    return table


def verdicts(arms: Mapping[str, Arm], adapter_bytes: int) -> list[str]:
    """The two targets, and the same limits for surgery alone and against S2 of S3a's ranks."""
    lines = []
    allowed = len(TASKS) * adapter_bytes
    for name, base, what in (
        ("S3a + PCGrad", "S2", "target"),
        ("S3a + PCGrad", ACTIVE, "equal active rank"),
        ("S3a + PCGrad", TOTAL, "equal parameters"),
        ("S3a + PCGrad", PEFTS, "S2 as PEFT has it"),
        ("S3a + PCGrad", "S3a", "surgery alone"),
        ("S2 + PCGrad", "S2", "surgery alone"),
    ):
        arm, other = arms[name], arms[base]
        wall, cpu = ratio(arm, other), ratio(arm, other, "cpu_seconds")
        over = arm.peak_bytes - other.peak_bytes
        lines += [
            f"- {what}: step time of {name} at most {TARGET:g} x {base}'s: {'met' if wall <= TARGET else 'missed'} "
            f"({wall:.3f}; by CPU time {cpu:.3f}; rounds: "
            f"{', '.join(f'{a / b:.3f}' for a, b in zip(arm.seconds, other.seconds, strict=True))})",
            f"- {what}: peak memory of {name} at most {base}'s + {len(TASKS)} shared adapters "
            f"({allowed / _MIB:.1f} MiB): {'met' if over <= allowed else 'missed'} ({over / _MIB:+.1f} MiB)",
        ]
    return lines


def encoder(folder: Path) -> tuple[Source, str]:
    """MiniLM, or a random encoder of its size made in a folder; and its name."""
    try:
        return Source(str(encoder_folder())), "MiniLM"
    except Absent:
        print("a random encoder of its size instead", file=sys.stderr)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    AutoModel.from_config(config).save_pretrained(folder)
    return Source(str(folder)), "a random BERT of MiniLM's size"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each arm (default: %(default)s)")
    parser.add_argument("--memory-steps", type=int, default=1, help="steps whose memory is measured (%(default)s)")
    parser.add_argument("--tokens-per-step", type=int, default=4096, help="as in recipes/blurb_s2.json (%(default)s)")
    parser.add_argument("--micro-batch-tokens", type=int, help="default: the tokens of a step")
    parser.add_argument("--rank", type=int, default=16, help="of the shared adapter (default: %(default)s)")
    parser.add_argument("--adapter-dropout", type=float, default=0.05, help="as in the recipes (default: %(default)s)")
    options = parser.parse_args()
    if min(options.rounds, options.memory_steps) < 1:
        parser.error("--rounds and --memory-steps are at least 1")
    torch.set_num_threads(options.threads)
    disable_progress_bars()
    disable_progress_bar()
    generator = np.random.default_rng(SEED)
    lengths = saved_lengths()
    cards = [resolve_card(TaskSpec.model_validate({"name": task})) for task in TASKS]
    with tempfile.TemporaryDirectory() as folder:
        source, name = encoder(Path(folder) / "encoder")
        vocabulary = load_config(source).vocab_size
        datasets = {
            card.name: synthetic_rows(generator.choice(lengths[TASKS[card.name]], ROWS), card, vocabulary, number)
            for number, card in enumerate(cards)
        }
        lora = LoraSettings(r=options.rank, alpha=2 * options.rank, dropout=options.adapter_dropout)
        arms = Setting(source, cards, datasets, lora, options, folder).arms()
        difference = measure(arms, options.rounds, options.memory_steps)
    adapter = arms["S2"].model.parameter_counts()["per_adapter"][SHARED]
    conflicts = arms["S3a + PCGrad"].trainer.gradient_conflicts
    negative = sum(pair["negative"] for pair in conflicts) / max(1, sum(pair["steps"] for pair in conflicts))
    print(
        f"{name}, {len(TASKS)} tasks, {options.tokens_per_step} tokens a step, {options.rounds} rounds; a shared adapter "
        f"(rank {options.rank}, dropout {options.adapter_dropout:g}) is {4 * adapter / _MIB:.2f} MiB; "
        f"{negative:.0%} of task pairs conflict; {hardware()}, "
        f"{options.threads} threads, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}; {date.today()}\n"
    )
    print(markdown(columns(arms, 4 * adapter)))
    print("\n" + "\n".join(verdicts(arms, 4 * adapter)))
    print(f"- explicit projection's gradients in the first step differ from ours by {difference:.1e} of their norm")
    if importlib.util.find_spec("torchjd") is None:
        print("- torchjd is not installed (it is not on the package index): no such arm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
