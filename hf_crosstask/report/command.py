"""`hf-crosstask report`: a study's folder becomes pages, tables and figures."""

from __future__ import annotations

from pathlib import Path

from hf_crosstask.errors import InputError
from hf_crosstask.report.collect import collect
from hf_crosstask.report.write import write_report
from hf_crosstask.study.command import open_study


def report(
    path: Path,
    overrides: tuple[str, ...] = (),
    *,
    output: Path | None = None,
    price_per_hour: float | None = None,
) -> int:
    """Write a study's report.

    Args:
        path: the study's file, or its folder.
        overrides: `key.path=value`.
        output: where to; by default `report` in the study's folder.
        price_per_hour: of the machine.

    Returns:
        0.

    Raises:
        InputError: the study is wrong, or none of its runs has a result.
    """
    study, store = open_study(path, overrides)
    if not store.results:
        raise InputError(
            f"no run of {study.name} has a usable result in {store.output_dir}: run it with `hf-crosstask study {path}`"
        )
    page = write_report(collect(study, store, price_per_hour=price_per_hour), output or store.output_dir / "report")
    print((page.parent / "SUMMARY.txt").read_text(encoding="utf-8"), end="")
    print(f"report in {page}")
    return 0
