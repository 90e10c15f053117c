"""The adapters of a run as a table: their ranks, their parameters, and of A1 to A4 all four side by side."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.box import ASCII2
from rich.console import Console
from rich.table import Table

from hf_crosstask.errors import InputError
from hf_crosstask.models.adapter_layout import AdapterLayout
from hf_crosstask.models.build import head_parameters
from hf_crosstask.models.equal_parameters import (
    ARMS,
    TOLERANCE,
    adapter_parameters,
    describe_rank,
    module_sizes,
)
from hf_crosstask.models.strategy_layout import arm_layout
from hf_crosstask.run.prepare import Prepared

_PLAIN_WIDTH = 400


def print_adapters(prepared: Prepared, file: TextIO | None = None) -> None:
    """Print the adapters of a run that has several, or that is one of A1 to A4; of others nothing.

    Raises:
        InputError: the adapters do not go with the tasks, or cannot be made equal.
    """
    layout = prepared.layout
    arms = prepared.recipe.strategy.layout in ARMS
    if layout is None or (len(layout.adapters) == 1 and not arms):
        return
    file = file or sys.stdout
    table = _arms_table(prepared) if arms else _layout_table(prepared, layout)
    Console(file=file, width=None if file.isatty() else _PLAIN_WIDTH).print(table)


def _layout_table(prepared: Prepared, layout: AdapterLayout) -> Table:
    """One row an adapter."""
    assert prepared.lora is not None
    sizes = module_sizes(prepared.config, prepared.lora)
    counted, heads = adapter_parameters(layout, sizes), _heads(prepared)
    table = _table(
        f"adapters (fusion {layout.fusion}): {counted.total:,} trainable parameters, {counted.active:,} active for a task; "
        f"heads {heads:,} more",
        "adapter",
        ("rank", "parameters", "trained by"),
    )
    for name, settings in layout.adapters.items():
        table.add_row(
            name, describe_rank(settings, len(sizes)), f"{counted.adapters[name]:,}", ", ".join(layout.users(name))
        )
    if any(counted.gates.values()):
        table.add_row(layout.fusion, "", f"{sum(counted.gates.values()):,}", "each task its own")
    return table


def _arms_table(prepared: Prepared) -> Table:
    """One row for each of A1 to A4, the run's own marked; those that cannot be made equal say why."""
    recipe, own = prepared.recipe, prepared.layout
    assert own is not None
    matched, cards = recipe.strategy.equal_parameters or "total", [each.card for each in prepared.data.values()]
    lora = prepared.lora
    assert lora is not None
    sizes = module_sizes(prepared.config, lora)
    reference = lora.r * sum(sizes.values())
    table = _table(
        f"{recipe.strategy.name}: {matched} adapter parameters equal to the {reference:,} of one shared adapter of rank "
        f"{lora.r}, within {TOLERANCE:.0%}; heads {_heads(prepared):,} more in every arm",
        "arm",
        ("shared rank", "private rank", "gates", "total", "of A1", "active for a task", "of A1"),
    )
    for arm in ARMS:
        name = f"{arm} (this run)" if arm == recipe.strategy.layout else arm
        try:
            layout = own if arm == recipe.strategy.layout else arm_layout(arm, recipe.strategy, lora, cards, sizes)
        except InputError as error:
            table.add_row(name, str(error))
            continue
        counted = adapter_parameters(layout, sizes)
        ranks = [
            describe_rank(layout.adapters[names[0]], len(sizes)) if names else "-"
            for names in (layout.shared, next(iter(layout.private.values())))
        ]
        table.add_row(
            name,
            *ranks,
            f"{sum(counted.gates.values()):,}",
            f"{counted.total:,}",
            f"{counted.total / reference:.2%}",
            f"{counted.active:,}",
            f"{counted.active / reference:.2%}",
        )
    return table


def _heads(prepared: Prepared) -> int:
    return sum(
        head_parameters([each.card for each in prepared.data.values()], prepared.config, prepared.text).values()
    )


def _table(title: str, first: str, others: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=ASCII2)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
