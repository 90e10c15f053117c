"""`TokenBudgetTrainer`: trains on exactly as many forward tokens as asked for, or as another run saw."""

from __future__ import annotations

from typing import Any

from hf_crosstask.errors import InputError
from hf_crosstask.evaluation.result import MatchResult
from hf_crosstask.planning.budget import Budget
from hf_crosstask.planning.plan import TrainingPlan
from hf_crosstask.training.arguments import TokenBudgetTrainingArguments
from hf_crosstask.training.matching import OF_RECIPES, Reference, read_reference
from hf_crosstask.training.trainer import MultiTaskTrainer


class TokenBudgetTrainer(MultiTaskTrainer):
    """The token-controlled baseline: usually one task, on the tokens a multi-task run saw.

    If the multi-task model still wins, that is evidence of transfer, not of more data.

    Args:
        args: `TokenBudgetTrainingArguments` with `token_budget` or `match`.
        others: as for `MultiTaskTrainer`.

    Attributes:
        reference: the run that is matched; None for a plain number of tokens.

    Raises:
        MatchError: the reference did not finish, or its token account cannot be trusted.

    Example:
        >>> trainer = TokenBudgetTrainer(
        ...     model=model,
        ...     args=TokenBudgetTrainingArguments("out/s1_token_controlled", match="out/s2"),
        ...     train_dataset={"bc2gm": bc2gm},
        ...     processing_class=tokenizer,
        ... )
        >>> trainer.train()
        >>> trainer.match.difference
        0
    """

    args: TokenBudgetTrainingArguments

    def __init__(self, model: Any = None, args: TokenBudgetTrainingArguments | None = None, **arguments: Any):
        if not isinstance(args, TokenBudgetTrainingArguments):
            raise InputError("TokenBudgetTrainer needs args=TokenBudgetTrainingArguments with token_budget or match")
        self.reference: Reference | None = None
        if args.match:
            self.reference = read_reference(args.match, args.match_mode, args.match_fraction)
        super().__init__(model=model, args=args, **arguments)

    @property
    def token_budget(self) -> int:
        """Forward tokens to train on."""
        return self.reference.tokens if self.reference else int(self.args.token_budget or 0)

    @property
    def budget(self) -> Budget:
        """All of `token_budget`, hit exactly where example lengths allow."""
        return Budget(tokens=self.token_budget)

    def plan_for(self, budget: Budget) -> TrainingPlan:
        """The plan for a budget; where a run is matched, for what of it is matched."""
        if self.reference is None:
            return super().plan_for(budget)
        if self.reference.mode in OF_RECIPES:
            raise InputError(f"{self.reference.mode} is matched by a recipe: give it in budget.match")
        return self.reference.plan(self.tasks, super().plan_for)

    def match_result(self, counted: int, flops: int | None = None) -> MatchResult:
        """What was matched, and by how much a run misses it, in the unit of the mode.

        Args:
            counted: its forward tokens.
            flops: its floating-point operations, where they are matched.
        """
        if self.reference is None:
            mode, reference, target = "total_tokens", "token_budget", self.token_budget
        else:
            mode, reference = self.reference.mode, self.reference.path
            target = self.reference.target(self.tasks)
        reached = {"updates": self.state.global_step, "unique_tokens": self.plan.tokens_per_pass}.get(mode, counted)
        if mode == "flops":
            if flops is None:
                raise InputError("the FLOPs that were matched are in the run's result.json")
            reached = flops
        return MatchResult(mode=mode, reference=reference, target=target, difference=reached - target)

    @property
    def match(self) -> MatchResult:
        """`match_result` of the tokens seen so far. All processes must ask for it together."""
        return self.match_result(self.ledger.total_tokens)
