"""A report from invented runs: everything it shows is in the data, and every format opens."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from invented_runs import evidence

from hf_crosstask.evaluation.analysis import Analysis, FigureData, Mark, Matrix, Series, Table, read_analysis
from hf_crosstask.evaluation.result import RunResult
from hf_crosstask.report.cells import ranked
from hf_crosstask.report.data import Dose, ReportData, StudyRun
from hf_crosstask.report.text import latex, markdown_table, render_latex
from hf_crosstask.report.write import write_report
from hf_crosstask.study.verdict import VerdictSettings, study_verdict


def _result(arm: str, seed: int, tasks: tuple[str, ...]) -> RunResult:
    tokens = {"planned": 500, "counted": 500, "padded": 520}
    each = {
        "type": "classification",
        "examples": {"train": 80, "validation": 10, "test": 400},
        "tokens": {**tokens, "supervised": 80, "unique": 250},
        "epochs": 2.0,
        "metrics": {
            "primary": "accuracy",
            "values": {"accuracy": {"value": 0.6, "low": 0.5, "high": 0.7}},
            "majority": 0.5,
        },
        "data_fingerprint": "abc",
    }
    leak = {"evaluation_examples": 3, "evaluation_documents": 2, "train_examples": 4, "train_documents": 2}
    pair = {"train_task": "first", "evaluation_task": "a_b", "evaluation_split": "test", "leak": leak}
    within = pair | {"evaluation_task": "first"}
    return RunResult.model_validate(
        {
            "experiment_id": "x",
            "status": "finished",
            "strategy": arm if len(tasks) > 1 else "S1",
            "seed": seed,
            "fingerprints": {"recipe": "r" * 64, "data": "d" * 64, "plan": "p" * 64},
            "tokens": {key: value * len(tasks) for key, value in tokens.items()},
            "match": None,
            "tasks": dict.fromkeys(tasks, each),
            "parameters": {"total": 900, "trainable": 90, "heads": 10, "per_adapter": {"shared": 80}},
            "train": {
                **{"steps": 5, "runtime_s": 3.5, "loss": 0.5, "tokens_per_s": 300.0, "peak_memory_bytes": 2**28},
                "stopped": None,
            },
            "environment": {"versions": {"torch": "2.13.0"}, "hardware": "cpu", "processes": 1, "git_commit": None},
            "audit": {"policy": "purge", "within_task": "allow", "leaks": [pair, within]} if len(tasks) > 1 else None,
            "gradient_conflicts": [{"tasks": ["first", "a_b"], "steps": 5, "mean": -0.2, "min": -0.5, "negative": 0.8}]
            if len(tasks) > 1
            else [],
        }
    )


@pytest.fixture(scope="module")
def data() -> ReportData:
    settings = VerdictSettings(replicates=300)
    verdict = study_verdict(
        [
            evidence("first", single=0.55, matched=0.6, multi=0.7),
            evidence("a_b", single=0.6, matched=0.7, multi=0.7),
            evidence("<i>&amp", problems=["run S2/seed 3: unfinished"]),
        ],
        settings,
        name="invented",
    )
    runs = [
        StudyRun(f"{arm}-{seed}", arm, "", tasks, seed, _result(arm, seed, tasks), Path("nowhere"))
        for arm, tasks in (("S2", ("first", "a_b")), ("S1", ("first",)))
        for seed in (0, 1)
    ]
    calibration = Analysis(
        kind="calibration",
        title="Calibration",
        summary=["Well calibrated."],
        tables=[Table(name="calibration", caption="ECE", columns=["task", "ECE"], rows=[["first", 0.0123]])],
        figures=[
            FigureData(
                name="reliability",
                caption="Reliability [of bins].",
                kind="lines",
                series=[Series(name="S2", x=[0.1, 0.9], y=[0.2, None])],
                reference="diagonal",
            )
        ],
    )
    return ReportData(
        name="invented study",
        description="All of it is invented.",
        verdicts={"": verdict},
        runs=runs,
        problems=["S2/seed 4: missing"],
        analyses={"calibration": [calibration]},
        doses=[Dose("D", "", ["first"], "first", share, 0, "accuracy", 0.5 + share) for share in (0.25, 0.5)],
    )


@pytest.fixture(scope="module")
def folder(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(data, tmp_path_factory.mktemp("report")).parent


def test_the_page_stands_alone_and_shows_what_was_found(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert page.count("<img ") == len(list((folder / "figures").glob("*.png")))
    assert "<i>" not in page
    assert "&lt;i&gt;&amp;amp" in page
    for text in ("S2/seed 4: missing", "run S2/seed 3: unfinished", "Well calibrated.", "0.0123"):
        assert text in page
    assert page.count("Not run:") == page.count("<p>Not run:") == 4, "contamination, probing, errors, inference"


def test_the_numbers_are_those_of_the_verdict(data: ReportData, folder: Path) -> None:
    (verdict,) = data.verdicts.values()
    rows = list(csv.DictReader((folder / "tables" / "verdict.csv").open(encoding="utf-8")))
    assert [row["verdict"] for row in rows] == ["transfer", "undecided", "no verdict"]
    assert rows[0]["+ transfer"].startswith(f"{verdict.tasks[0].transfer.estimate:+.4f}")
    parity = list(csv.DictReader((folder / "tables" / "parity.csv").open(encoding="utf-8")))
    assert {(row["reference counted"], row["control counted"], row["holds"]) for row in parity} == {
        ("1000", "990", "True")
    }
    leakage = list(csv.DictReader((folder / "tables" / "leakage.csv").open(encoding="utf-8")))
    assert [(row["evaluates on"], row["policy"]) for row in leakage] == [
        ("a_b/test", "purge"),
        ("first/test", "allow"),
    ]
    everything = list(csv.DictReader((folder / "all_results.csv").open(encoding="utf-8")))
    assert len(everything) == 2 * 2 + 2
    assert everything[0]["value"] == "0.6"
    stored = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    assert stored[""]["tasks"][0]["category"] == "transfer"


def test_writing_it_again_gives_the_same_bytes(data: ReportData, folder: Path, tmp_path: Path) -> None:
    write_report(data, tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_no_verdict_at_all_is_a_report_too(tmp_path: Path) -> None:
    page = write_report(ReportData("empty", "", {}, problems=["S1: missing"]), tmp_path)
    assert "S1: missing" in page.read_text(encoding="utf-8")


def test_best_and_second_are_marked_and_ties_share_a_rank() -> None:
    cells = ranked([0.3, None, 0.5, 0.5, 0.4], ["c", "", "a", "a", "b"], ["", "", "*", "", ""])
    assert cells == [
        Mark(text="c"),
        None,
        Mark(text="a", best=True, mark="*"),
        Mark(text="a", best=True),
        Mark(text="b", second=True),
    ]
    assert ranked([0.5], ["only"]) == [Mark(text="only")], "one arm beats nobody"


def test_latex_and_markdown_escape_names() -> None:
    table = Table(
        name="t",
        caption="100 % of a_b",
        columns=["task", "x|y"],
        rows=[["a_b", Mark(text="0.5", best=True, mark="*")]],
    )
    assert latex("a_b & 5 % ± {x}") == r"a\_b \& 5 \% $\pm$ \{x\}"
    assert r"a\_b & \textbf{0.5}$^{*}$ \\" in render_latex(table)
    assert r"\begin{tabular}{lr}" in render_latex(table)
    assert r"| a_b | **0.5**\* |" in markdown_table(table)


def test_an_analysis_that_is_none_is_refused(tmp_path: Path) -> None:
    from hf_crosstask.errors import InputError

    (tmp_path / "a.json").write_text('{"kind": "x", "title": "x", "summary": [], "tables": [{"name": "t"}]}')
    with pytest.raises(InputError, match=r"a\.json is no analysis of this version: tables\.0"):
        read_analysis(tmp_path / "a.json")
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table(name="t", caption="", columns=["a", "b"], rows=[["x"]])


def test_every_kind_of_figure_is_drawn(tmp_path: Path) -> None:
    from hf_crosstask.report.figures import write_figure

    series = [Series(name="s", x=["a", "b"], y=[0.1, None], low=[0.0, None], high=[0.2, None])]
    for kind in ("forest", "bars"):
        write_figure(FigureData(name=kind, caption="", kind=kind, series=series, reference="zero"), tmp_path)  # type: ignore[arg-type]
    points = [Series(name="s", x=[1.0, 2.0], y=[0.1, 0.2])]
    for kind in ("lines", "scatter"):
        write_figure(FigureData(name=kind, caption="", kind=kind, series=points), tmp_path)  # type: ignore[arg-type]
    matrix = Matrix(rows=["a"], columns=["b", "c"], values=[[None, 0.5]], diverging=False)
    write_figure(FigureData(name="heatmap", caption="", kind="heatmap", matrix=matrix), tmp_path)
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("*.pdf"))) == 5


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_the_page_opens_in_a_real_browser(folder: Path, tmp_path: Path) -> None:
    probe = folder / "probe.html"  # the page with a script that reports what the browser made of it
    script = (
        "<script>window.addEventListener('load', () => { const images = [...document.images];"
        "document.body.dataset.seen = images.filter(i => i.complete && i.naturalWidth > 50).length + '/' + images.length;"
        "});</script></body>"
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    probe.write_text(page.replace("</body>", script), encoding="utf-8")
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}"),
        *("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"),
    ]
    done = subprocess.run(
        ["chromium", *flags, probe.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    probe.unlink()
    assert done.returncode == 0, done.stderr
    seen = re.search(r'data-seen="(\d+)/(\d+)"', done.stdout)
    assert seen
    assert seen[1] == seen[2]
    assert int(seen[2]) >= 5
    assert "CONSOLE" not in done.stderr, done.stderr
