"""Which adapters a model has, which of them each task uses, and which it trains: one frozen object, made from a recipe.

| strategy | adapters | a task uses |
|---|---|---|
| S1, S2, S4, A1 | `shared` | `shared` |
| S4 with `freeze` | `private_<task>` | its own and those of the stages before it, which it does not train |
| A2 | `private_<task>` | its private one |
| S3a, A3, A4 | `shared`, `private_<task>` | both, added up as `fusion` says |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapters import SHARED, LoraSettings
from hf_crosstask.recipe.schema import Strategy

Fusion = Literal["sum", "gated", "attention"]
#: A name of its own: PEFT re-initialises adapters whose name is part of `lora_`, as a task's may be (`a`, `lora`).
PRIVATE_PREFIX = "private_"
_ONE_SHARED = ("S1", "S1_token_controlled", "S2", "S4", "A1")


@dataclass(frozen=True)
class AdapterLayout:
    """Adapters and their use.

    Attributes:
        adapters: settings by adapter name, in the order in which they are made.
        uses: for each task, the adapters that are active in its forward pass, in the order in which they are added up.
        fusion: how several active adapters are added up.
        untrained: (task, adapter) pairs in which the task uses the adapter as a constant: its loss leaves the adapter's
            parameters without gradient, while gradients still flow through the adapter to what lies before it.
    """

    adapters: Mapping[str, LoraSettings]
    uses: Mapping[str, tuple[str, ...]]
    fusion: Fusion = "sum"
    untrained: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for task in self.uses:
            if task in self.adapters:
                raise InputError(f"task {task!r} has the name of an adapter; rename the task")
        for task, names in self.uses.items():
            unknown = [name for name in names if name not in self.adapters]
            if unknown or not names:
                raise ValueError(f"task {task!r} uses {list(names)}, but the adapters are {list(self.adapters)}")
        for adapter in self.adapters:
            if not self.users(adapter):
                raise InputError(f"no task trains the adapter {adapter!r}")

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.uses)

    @property
    def shared(self) -> tuple[str, ...]:
        """Adapters that two or more tasks use."""
        return tuple(name for name in self.adapters if sum(name in used for used in self.uses.values()) > 1)

    @property
    def private(self) -> dict[str, tuple[str, ...]]:
        """For each task, the adapters that it alone uses."""
        return {task: tuple(name for name in names if name not in self.shared) for task, names in self.uses.items()}

    def users(self, adapter: str) -> tuple[str, ...]:
        """The tasks that train an adapter, in order."""
        return tuple(
            task for task, names in self.uses.items() if adapter in names and (task, adapter) not in self.untrained
        )


def private_name(task: str) -> str:
    """The name of a task's private adapter."""
    return PRIVATE_PREFIX + task


def one_shared(tasks: Sequence[str], lora: LoraSettings) -> AdapterLayout:
    """Every task uses and trains one adapter."""
    return AdapterLayout({SHARED: lora}, dict.fromkeys(tasks, (SHARED,)))


def shared_and_private(
    tasks: Sequence[str], shared: LoraSettings, private: LoraSettings, *, fusion: Fusion, outside: Sequence[str] = ()
) -> AdapterLayout:
    """Every task uses the shared adapter and its own; tasks `outside` do not train the shared one."""
    return AdapterLayout(
        {SHARED: shared} | {private_name(task): private for task in tasks},
        {task: (SHARED, private_name(task)) for task in tasks},
        fusion,
        frozenset((task, SHARED) for task in outside),
    )


def only_private(tasks: Sequence[str], private: LoraSettings) -> AdapterLayout:
    """Every task uses its own adapter alone."""
    return AdapterLayout(
        {private_name(task): private for task in tasks}, {task: (private_name(task),) for task in tasks}
    )


def one_a_stage(order: Sequence[str], tasks: Sequence[str], lora: LoraSettings) -> AdapterLayout:
    """Every task trains an adapter of its own on top of those of the stages before it, which it uses unchanged."""
    names = {task: tuple(private_name(each) for each in order[: order.index(task) + 1]) for task in tasks}
    return AdapterLayout(
        {private_name(task): lora for task in order},
        names,
        untrained=frozenset((task, name) for task, used in names.items() for name in used[:-1]),
    )


def adapter_layout(
    strategy: Strategy, lora: LoraSettings, provenance: Mapping[str, str | None], order: Sequence[str] | None = None
) -> AdapterLayout:
    """The adapters of a strategy, with ranks as the recipe gives them (A1 to A4: see `equal_parameters`).

    Args:
        strategy: the recipe's strategy.
        lora: the recipe's adapter.
        provenance: where each task's texts come from, by task, in the recipe's order.
        order: the tasks in the order of their stages (S4 with `freeze`); by default that of `provenance`.

    Raises:
        InputError: `private_provenance` names what no task has, or leaves nobody to train the shared adapter.
    """
    tasks = tuple(provenance)
    if strategy.freeze:
        return one_a_stage(order or tasks, tasks, lora)
    if strategy.layout in _ONE_SHARED:
        return one_shared(tasks, lora)
    if strategy.layout == "A2":
        return only_private(tasks, replace(lora, train_embeddings=False))
    rank = strategy.private_r or max(1, lora.r // 2)
    private = replace(with_rank(lora, rank), train_embeddings=False)
    fusion: Fusion = {"A3": "sum", "A4": "gated"}.get(strategy.layout, strategy.fusion or "sum")  # type: ignore[assignment]
    outside = tasks_outside(strategy.private_provenance, provenance)
    return shared_and_private(tasks, lora, private, fusion=fusion, outside=outside)


def with_rank(lora: LoraSettings, rank: int) -> LoraSettings:
    """The same adapter with another rank and the same scaling (alpha / r, or alpha / sqrt(r) with rslora)."""
    ratio = rank / lora.r
    return replace(lora, r=rank, alpha=lora.alpha * (ratio**0.5 if lora.use_rslora else ratio))


def tasks_outside(private_provenance: Sequence[str], provenance: Mapping[str, str | None]) -> tuple[str, ...]:
    """The tasks whose texts come from one of the places named.

    Raises:
        InputError: no task comes from a place, or all tasks do.
    """
    known = sorted({place for place in provenance.values() if place})
    for place in private_provenance:
        if place not in known:
            raise InputError(
                f"strategy.private_provenance: no task has provenance {place!r}; "
                f"the tasks have {', '.join(known) or 'none'}"
            )
    outside = tuple(task for task, place in provenance.items() if place in private_provenance)
    if provenance and len(outside) == len(provenance):
        raise InputError("strategy.private_provenance: every task is kept out of the shared adapter; nobody trains it")
    return outside
