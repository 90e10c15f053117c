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
    parser.add_argument(
        "--smoke-test",
        action="store_true",
        help="first train a copy for a few steps; stop where its loss does not fall",
    )
    parser.add_argument("--resume", action="store_true", help="continue from the newest complete checkpoint")


def _train(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    releases = recipe.release is not None and not arguments.dry_run and os.environ.get("RANK", "0") == "0"
    if releases:
        from hf_crosstask.release.command import check_login

        check_login(recipe)
    # On import it warns of an optional kernel package, which nobody asked for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from hf_crosstask.run.train import train  # after the recipe is known to be right: it imports torch

    code = train(recipe, dry_run=arguments.dry_run, resume=arguments.resume, smoke_test=arguments.smoke_test)
    if code == EXIT_DONE and releases:
        from hf_crosstask.release.command import Request, release

        request = Request.of(recipe)
        assert request is not None
        return release(Path(recipe.output_dir).expanduser(), request)
    return code


def _tune_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--space", metavar="FILE", required=True, help="search space (JSON)")
    parser.add_argument(
        "--trials", metavar="N", type=int, default=20, help="trials, the same for every arm (default: 20)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the sampler (default: 0)")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="where to write the trials (default: OUTPUT_DIR/tune.json)"
    )


def _tune(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.recipe.search_space import load_space

    recipe, space = load_recipe(arguments.recipe, arguments.overrides), load_space(arguments.space)
    if arguments.trials < 1:
        raise InputError(f"--trials must be at least 1, found {arguments.trials}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in `_train`
    from hf_crosstask.run.tune import FILE_NAME, tune

    file = arguments.json or Path(recipe.output_dir).expanduser() / FILE_NAME
    return tune(recipe, space, trials=arguments.trials, seed=arguments.seed, json_file=file)


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


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="folder of a finished run")
    parser.add_argument("--task", metavar="T", help="the task; may be left out where the run has one only")
    parser.add_argument(
        "--format",
        required=True,
        choices=["merged", "gptq", "awq", "onnx"],
        help="16-bit safetensors; 4-bit weights (compressed-tensors); ONNX (encoders)",
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="a new folder (default: RUN_DIR/exports/T-FORMAT)")
    parser.add_argument(
        "--dtype",
        choices=["auto", "fp32", "fp16", "bf16"],
        default="auto",
        help="of the weights that stay plain (auto: as the base model stores them)",
    )
    parser.add_argument(
        "--calibration-texts", metavar="N", type=int, default=128, help="training texts to calibrate on (default: 128)"
    )
    parser.add_argument("--no-score", action="store_true", help="do not score the exported files again")


def _export(arguments: argparse.Namespace) -> int:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in `_train`
    from hf_crosstask.release.export import export, report

    result, folder = export(
        arguments.run,
        task=arguments.task,
        format=arguments.format,
        output=arguments.output,
        dtype=arguments.dtype,
        calibration_texts=arguments.calibration_texts,
        score=not arguments.no_score,
    )
    report(result, folder)
    return EXIT_DONE


def _release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="folder of a finished run")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="repository on the Hub; made if need be")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument(
        "--private", action="store_true", default=None, help="default where a corpus is restricted"
    )
    visibility.add_argument("--public", dest="private", action="store_false", default=None, help="default else")
    parser.add_argument("--revision", metavar="BRANCH", help="branch, made if need be (default: main)")
    parser.add_argument("--collection", metavar="TITLE", help="put it in a collection, made if need be")
    parser.add_argument("--dry-run", action="store_true", help="print what would be pushed and stop")
    _card_options(parser)


def _card_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", metavar="T", help="this task alone, its adapter at the root (default: all tasks)")
    parser.add_argument("--base-model", metavar="ID", help="Hub id of a base model that the run had from a folder")
    parser.add_argument("--licence", metavar="ID", help="the Hub's name of a licence (default: that of the corpora)")
    parser.add_argument(
        "--verdicts", metavar="FILE", type=Path, help="statistics.json of a study, for its verdict table"
    )


def _release(arguments: argparse.Namespace) -> int:
    from hf_crosstask.release.card import CardOptions
    from hf_crosstask.release.command import Request, release

    request = Request(
        arguments.repo,
        arguments.private,
        arguments.revision,
        arguments.task,
        arguments.base_model,
        arguments.collection,
        CardOptions(arguments.licence, verdicts=arguments.verdicts),
    )
    return release(arguments.run, request, dry_run=arguments.dry_run)


def _card_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="run folder, recipe file, or with --rebuild a folder of cards"
    )
    parser.add_argument("--repo", metavar="USER/NAME", default="user/name", help="repository that the card speaks of")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write it there (default: print it)")
    parser.add_argument(
        "--rebuild", metavar="RECIPES", type=Path, help="render the card of every recipe of a folder into SOURCE"
    )
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the run's records in a folder of cards")
    _card_options(parser)


def _card(arguments: argparse.Namespace) -> int:
    from hf_crosstask.release.card import CardOptions
    from hf_crosstask.release.command import Request, keep_records, rebuild_cards, write_card

    if arguments.rebuild is not None:
        cards = rebuild_cards(arguments.source, arguments.rebuild, arguments.repo.split("/")[0])
        print(f"{len(cards)} cards in {arguments.source}")
        return EXIT_DONE
    if arguments.keep is not None:
        keep_records(arguments.source, arguments.keep)
        return EXIT_DONE
    options = CardOptions(arguments.licence, verdicts=arguments.verdicts)
    request = Request(arguments.repo, task=arguments.task, base_model=arguments.base_model, options=options)
    return write_card(arguments.source, request, arguments.output)


def _api_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--model", required=True, metavar="NAME", help="the model's name at the endpoint")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 5], help="examples in the prompt (default: 0 5)")
    parser.add_argument("--examples", type=int, metavar="N", help="ask N examples of each task, a seeded sample")
    parser.add_argument("--output", type=Path, metavar="DIR", help="result and cache (default: outputs/api-NAME)")
    parser.add_argument("--prompt-price", type=float, metavar="X", help="price of a million prompt tokens")
    parser.add_argument("--completion-price", type=float, metavar="X", help="price of a million generated tokens")
    parser.add_argument("--max-cost", type=float, metavar="X", help="spend no more, all runs with this cache together")
    parser.add_argument("--max-requests", type=int, metavar="N", help="send no more, retries included")
    parser.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests in flight (default: 8)")
    parser.add_argument("--requests-per-minute", type=float, metavar="N", help="rate limit (default: none)")
    parser.add_argument("--dry-run", action="store_true", help="say what it would cost and stop")
    parser.add_argument(
        "--send-credentialed-text", action="store_true", help="you may send text of corpora that need credentials"
    )


def _api(arguments: argparse.Namespace) -> int:
    from hf_crosstask.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    from hf_crosstask.release.api_baseline import command

    return command.api_baseline(recipe, arguments)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", type=Path, help="study file (JSON), or the folder of a study")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="change a key of the study: seeds=[1,2], recipe.budget.epochs=2",
    )


def _run_study_arguments(parser: argparse.ArgumentParser) -> None:
    _study_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their state, and stop")
    parser.add_argument("--print-commands", action="store_true", help="print a command for each run left, and stop")
    parser.add_argument(
        "--shard", metavar="I/N", help="run this part only; merge shards by copying their runs/ folders"
    )
    parser.add_argument(
        "--executor",
        choices=["local", "slurm", "submitit-local"],
        default="local",
        help="where runs run: this machine, SLURM through submitit, or submitit's own local processes (to try it out)",
    )


def _run_study(arguments: argparse.Namespace) -> int:
    from hf_crosstask.study.command import Request, run_study

    return run_study(
        Request(
            arguments.study,
            tuple(arguments.overrides),
            dry_run=arguments.dry_run,
            print_commands=arguments.print_commands,
            shard=arguments.shard,
            executor=arguments.executor,
        )
    )


def _validate(arguments: argparse.Namespace) -> int:
    from hf_crosstask.study.command import validate_study

    return validate_study(arguments.study, tuple(arguments.overrides))


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="folder of a finished run")
    parser.add_argument("--task", metavar="T", help="the task; may be left out where the run has one only")
    parser.add_argument(
        "--precisions", metavar="A,B", help="of fp32, fp16, bf16, nf4, gptq, awq (default: all that the device can do)"
    )
    parser.add_argument("--examples", type=int, default=50, metavar="N", help="examples to time (default: 50)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="examples before timing (default: 5)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of which the median counts (default: 3)")
    parser.add_argument("--price-per-hour", type=float, metavar="X", help="of the machine: prices 1,000 inferences")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the analysis that a study's report reads")
    parser.add_argument("--record", metavar="FILE", type=Path, help="write every number and setting as JSON")


def _bench(arguments: argparse.Namespace) -> int:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in `_train`
    from hf_crosstask.release.bench import BenchSettings, parse_precisions, run_bench

    settings = BenchSettings(
        parse_precisions(arguments.precisions),
        arguments.examples,
        arguments.warmup,
        arguments.repeats,
        arguments.price_per_hour,
    )
    return run_bench(arguments.run, arguments.task, settings, arguments.json, arguments.record)


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "of", nargs="?", choices=["recipe", "study"], default="recipe", help="of what (default: recipe)"
    )


def _schema(arguments: argparse.Namespace) -> int:
    if arguments.of == "study":
        from hf_crosstask.study.schema import study_schema

        schema = study_schema()
    else:
        from hf_crosstask.recipe import recipe_schema

        schema = recipe_schema()
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return EXIT_DONE


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    _study_arguments(parser)
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to write; default: report in the study's folder"
    )
    parser.add_argument("--price-per-hour", metavar="X", type=float, help="of the machine, for the cost section")


def _report_study(arguments: argparse.Namespace) -> int:
    from hf_crosstask.report.command import report

    price = arguments.price_per_hour
    return report(arguments.study, tuple(arguments.overrides), output=arguments.output, price_per_hour=price)


def _contamination_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument(
        "--non-members",
        metavar="FILE",
        type=Path,
        help="texts the model cannot have seen: JSON Lines with `text`, or lines",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, default=200, help="texts of each task's split (default: 200)"
    )
    parser.add_argument("--permutations", metavar="N", type=int, default=19, help="of the ordering test (default: 19)")
    _json_argument(parser)


def _contamination(arguments: argparse.Namespace) -> int:
    import tempfile

    from hf_crosstask.analyses.contamination import contamination, read_texts
    from hf_crosstask.recipe import load_recipe
    from hf_crosstask.report.show import show_analysis

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    texts = read_texts(arguments.non_members) if arguments.non_members else None
    with tempfile.TemporaryDirectory(prefix="hf_crosstask-") as folder:
        analysis = contamination(
            recipe,
            non_members=texts,
            limit=arguments.limit,
            permutations=arguments.permutations,
            base_models=Path(folder),
        )
    return show_analysis(analysis, arguments.json)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run")


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument(
        "--limit", metavar="N", type=int, default=1000, help="examples a task and split (default: 1000)"
    )
    _json_argument(parser)


def _probe(arguments: argparse.Namespace) -> int:
    from hf_crosstask.analyses.probe import probe_run
    from hf_crosstask.report.show import show_analysis

    return show_analysis(probe_run(arguments.run, limit=arguments.limit), arguments.json)


def _errors_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="folders of finished runs: seeds of one strategy, or of several",
    )
    _json_argument(parser)


def _errors(arguments: argparse.Namespace) -> int:
    from hf_crosstask.report.predicted import error_analysis, stored_predictions
    from hf_crosstask.report.show import show_analysis

    return show_analysis(error_analysis(stored_predictions(arguments.runs)), arguments.json)


def _calibration(arguments: argparse.Namespace) -> int:
    from hf_crosstask.report.predicted import calibration_analysis, stored_predictions
    from hf_crosstask.report.show import show_analysis

    return show_analysis(calibration_analysis(stored_predictions(arguments.runs)), arguments.json)


VERBS: dict[str, Verb] = {
    "train": Verb("train a recipe and score it", _train_arguments, _train),
    "tune": Verb("search hyper-parameters of a recipe, scored on validation data", _tune_arguments, _tune),
    "data": Verb("look at the data of a recipe: sizes, lengths, labels, overlaps", _data_arguments, _data),
    "audit": Verb("find evaluation examples in the training data of a recipe", _audit_arguments, _audit),
    "study": Verb("run a whole study and judge it: arms, controls, seeds, verdicts", _run_study_arguments, _run_study),
    "calibration": Verb("calibration of finished runs' predictions", _errors_arguments, _calibration),
    "errors": Verb("what finished runs get wrong", _errors_arguments, _errors),
    "probe": Verb("what the hidden states of a run encode, layer by layer", _probe_arguments, _probe),
    "contamination": Verb("had the base model seen the test sets?", _contamination_arguments, _contamination),
    "report": Verb("write a study's report: HTML, Markdown, LaTeX, CSV, figures", _report_arguments, _report_study),
    "validate": Verb("list missing, unfinished, tampered and unequal runs of a study", _study_arguments, _validate),
    "export": Verb("write one task of a run as plain files: merged, GPTQ, AWQ or ONNX", _export_arguments, _export),
    "release": Verb("push a finished run to the Hub, with its card", _release_arguments, _release),
    "card": Verb("print the model card of a run, or of a recipe not yet trained", _card_arguments, _card),
    "api-baseline": Verb("ask a model behind an OpenAI-compatible API: a reference point", _api_arguments, _api),
    "bench": Verb("measure what inference with a run costs, by precision", _bench_arguments, _bench),
    "schema": Verb("print the JSON Schema of recipes or studies, for editors", _schema_arguments, _schema),
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
