"""`hf-crosstask`: one function per verb, and one place where errors become messages and exit codes.

Exit codes: 0 done; 2 the input was wrong (one message, no traceback); 3 stopped early on purpose, resumable (time limit,
SIGTERM); 1 anything else (with its traceback). Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_crosstask._version import __version__
from hf_crosstask.errors import InputError, Interrupted

EXIT_DONE, EXIT_WRONG_INPUT, EXIT_INTERRUPTED = 0, 2, 3


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        summary: one line for `--help`.
        add_arguments: declares its arguments on a parser.
        run: does it; returns the exit code.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (JSON)")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="change a key of the recipe: training.seed=7, tasks='[\"bc2gm\"]', model=phi3_mini",
    )


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--resume", action="store_true", help="continue from the newest complete checkpoint")


def _train(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    # On import it warns of an optional kernel package, which nobody asked for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from hf_crosstask.run.train import train  # after the recipe is known to be right: it imports torch

    return train(recipe, dry_run=arguments.dry_run, resume=arguments.resume)


def _json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the report as JSON")


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    _json_argument(parser)


def _audit(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.run.inspect_data import audit

    return audit(load_recipe(arguments.recipe, arguments.overrides), json_file=arguments.json)


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    _json_argument(parser)
    parser.add_argument("--figures", metavar="DIR", type=Path, help="also draw figures (PNG and PDF) into a folder")


def _data(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.run.inspect_data import inspect_data

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    return inspect_data(recipe, json_file=arguments.json, figures=arguments.figures)


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    """`schema` takes none."""


def _schema(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import recipe_schema

    print(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))
    return EXIT_DONE


VERBS: dict[str, Verb] = {
    "train": Verb("train a recipe and score it", _train_arguments, _train),
    "data": Verb("look at the data of a recipe: sizes, lengths, labels, overlaps", _data_arguments, _data),
    "audit": Verb("find evaluation examples in the training data of a recipe", _audit_arguments, _audit),
    "schema": Verb("print the JSON Schema of recipes, for editors", _schema_arguments, _schema),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: `hf-crosstask VERB …`."""
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        prog="hf-crosstask",
        description="Multi-task fine-tuning with token-controlled baselines.",
        epilog="commands:\n" + "\n".join(f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hf-crosstask {__version__}")
    parser.add_argument("verb", metavar="COMMAND", choices=list(VERBS), help="see below; `COMMAND --help` for each")
    parser.add_argument("rest", metavar="…", nargs=argparse.REMAINDER, help="its arguments")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments:
        parser.print_help(sys.stderr)
        return EXIT_WRONG_INPUT
    parsed = parser.parse_args(arguments)
    return run_verb(parsed.verb, parsed.rest, program=f"hf-crosstask {parsed.verb}")


def run_verb(name: str, arguments: Sequence[str], *, program: str) -> int:
    """Parse and run one verb, and turn what went wrong into a message and an exit code.

    Args:
        name: a key of `VERBS`.
        arguments: its command line; overrides and flags in any order.
        program: how the usage line calls it.
    """
    verb = VERBS[name]
    parser = argparse.ArgumentParser(prog=program, description=verb.summary, allow_abbrev=False)
    verb.add_arguments(parser)
    parsed = parser.parse_intermixed_args(list(arguments))
    try:
        return verb.run(parsed)
    except InputError as error:
        return _report(f"error: {error}", EXIT_WRONG_INPUT)
    except Interrupted as stop:
        return _report(f"stopped: {stop}", EXIT_INTERRUPTED)


def _report(message: str, code: int) -> int:
    """Print to stderr, once per machine however many processes a launcher started."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
