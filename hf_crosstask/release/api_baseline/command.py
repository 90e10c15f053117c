"""The command line of `hf-crosstask api-baseline`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from hf_crosstask.errors import InputError
from hf_crosstask.recipe import Recipe
from hf_crosstask.release.api_baseline.asking import Prices
from hf_crosstask.release.api_baseline.reference import (
    Settings,
    endpoint_from_environment,
    parse_shots,
    print_reference,
    run,
)
from hf_crosstask.release.api_baseline.store import Cap


def api_baseline(recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Run it and show the table.

    Raises:
        InputError: the arguments do not fit each other.
    """
    prices = None
    given = (arguments.prompt_price, arguments.completion_price)
    if any(price is not None for price in given):
        if None in given or min(given) < 0:
            raise InputError("--prompt-price and --completion-price go together, and are no less than 0")
        prices = Prices(*given)
    for name in ("examples", "concurrency", "requests_per_minute"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be more than 0")
    output = arguments.output or Path("outputs") / f"api-{re.sub(r'[^A-Za-z0-9.]+', '-', arguments.model).strip('-')}"
    settings = Settings(
        model=arguments.model,
        output=output,
        shots=parse_shots(arguments.shots),
        examples=arguments.examples,
        prices=prices,
        cap=Cap(arguments.max_requests, arguments.max_cost),
        concurrency=arguments.concurrency,
        per_minute=arguments.requests_per_minute,
        send_credentialed_text=arguments.send_credentialed_text,
        dry_run=arguments.dry_run,
    )
    result = run(recipe, settings, endpoint_from_environment())
    if result is not None:
        print_reference(result, output)
    return 0
