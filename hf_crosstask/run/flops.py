"""The floating-point operations of a run: what its tasks cost, planned and counted."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PretrainedConfig

from hf_crosstask.encoding.encode import EncodedTask
from hf_crosstask.encoding.text import TextTasks
from hf_crosstask.evaluation.result import FlopCounts, TaskFlops
from hf_crosstask.models.adapter_layout import AdapterLayout
from hf_crosstask.models.build import heads_without_weights
from hf_crosstask.models.flops import task_rates
from hf_crosstask.planning.flops import FlopAccount
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.training.rows import answer_columns, label_counts


def flop_account(
    config: PretrainedConfig,
    layout: AdapterLayout | None,
    encoded: Mapping[str, Mapping[str, EncodedTask]],
    text: TextTasks,
) -> FlopAccount:
    """What the tasks of a run cost.

    Args:
        config: of the backbone.
        layout: the adapters that train; None: everything does.
        encoded: each task's encoded splits.
        text: the tasks that are trained on their text alone.

    Raises:
        InputError: the operations of the backbone cannot be counted.
    """
    heads = heads_without_weights([splits["train"].card for splits in encoded.values()], config, text)
    train = {task: splits["train"] for task, splits in encoded.items()}
    return FlopAccount(
        task_rates(config, layout, heads),
        answers={
            task: answer_columns(each.dataset)
            for task, each in train.items()
            if each.card.formulation != "head" and task not in text.names
        },
        masked={
            task: label_counts(each.dataset, task, shifted=False)
            for task, each in train.items()
            if task in text.names and text.masking is not None
        },
    )


def flop_counts(account: FlopAccount, plan: TrainingPlan, steps: int) -> FlopCounts:
    """The operations of a plan, and of its first `steps` steps."""
    planned, counted = account.by_task(plan), account.by_task(plan, steps)
    positions = account.positions_by_task(plan)
    tasks = {
        task: TaskFlops(
            planned=planned[task],
            counted=counted[task],
            token=rates.token,
            pair=rates.pair,
            sequence=rates.sequence,
            answer=rates.answer,
            positions=positions[task],
        )
        for task, rates in account.rates.items()
    }
    return FlopCounts(
        planned=sum(planned.values()),
        counted=sum(counted.values()),
        largest_example=account.largest_example(plan),
        tasks=tasks,
    )
