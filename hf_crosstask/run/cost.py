"""What a run computes besides the forward tokens of its plan.

The ledger counts each example's tokens once, however often the backbone sees them: that is what budgets are matched by.
Under S3b a level-2 token passes the backbone twice, which is reported beside the ledger as extra forward tokens.
"""

from __future__ import annotations

from hf_crosstask.run.prepare import Prepared


def extra_forward_tokens(prepared: Prepared) -> dict[str, int]:
    """Planned forward tokens of each task that are computed a second time."""
    planned = prepared.plan.tokens_by_task
    if prepared.recipe.strategy.layout != "S3b":
        return dict.fromkeys(planned, 0)
    return {task: tokens if prepared.data[task].card.level == 2 else 0 for task, tokens in planned.items()}


def flops_note(prepared: Prepared) -> str | None:
    """A line on the floating-point operations of the plan, and how near they are to those that are matched."""
    account, reference = prepared.flops, prepared.reference
    if account is None:
        return None
    planned = sum(account.by_task(prepared.plan).values())
    note = f"training takes {planned:,} floating-point operations ({planned:.2g}), forward and backward"
    if reference is None or reference.mode != "flops":
        return note
    target = reference.target(tuple(prepared.encoded))
    largest = account.largest_example(prepared.plan)
    return f"{note}, matched to the {target:,} of {reference.path}: {planned - target:+,} (one example: {largest:,})"


def cost_note(prepared: Prepared) -> str | None:
    """A line for under the plan's table; None where nothing is computed twice."""
    extra = sum(extra_forward_tokens(prepared).values())
    if not extra:
        return None
    detached = ", forward only" if prepared.recipe.strategy.detach else ""
    return (
        f"level-2 tasks pass the backbone twice{detached}: {extra:,} extra forward tokens "
        f"(+{extra / prepared.plan.total_tokens:.1%})"
    )
