"""From a study's folder to what its report shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_crosstask.evaluation.analysis import Analysis, read_analysis
from hf_crosstask.evaluation.predictions import Predictions
from hf_crosstask.report.data import ANALYSES, Dose, ReportData, StudyRun
from hf_crosstask.report.predicted import calibration_analysis, error_analysis
from hf_crosstask.study.assess import assess, doses
from hf_crosstask.study.schema import Study
from hf_crosstask.study.store import Store

#: Analyses of a study lie here in its folder, one file each.
FOLDER = "analyses"


def collect(study: Study, store: Store, *, price_per_hour: float | None = None) -> ReportData:
    """Everything the report shows. Only runs that can be used are in it; the others are named as problems.

    Raises:
        InputError: an analysis in the study's folder cannot be read.
    """
    assessed = assess(study, store)
    runs = []
    for planned in store.runs:
        result = store.results.get(planned.id)
        if result is None:
            continue
        seen: set[str] = set()
        for cell in planned.cells:
            if cell.arm not in seen:
                seen.add(cell.arm)
                folder = store.folder(planned)
                tasks = tuple(result.tasks)
                runs.append(StudyRun(planned.id, cell.arm, cell.model, tasks, cell.seed, result, folder))
    return ReportData(
        name=study.name,
        description=study.description,
        verdicts={each.comparison.name if len(assessed) > 1 else "": each.verdict for each in assessed},
        runs=runs,
        problems=[str(problem) for problem in store.problems()],
        analyses=_analyses(store.output_dir / FOLDER, runs),
        doses=[Dose(**dose) for dose in doses(study, store)],
        price_per_hour=price_per_hour,
    )


def _analyses(folder: Path, runs: Sequence[StudyRun]) -> dict[str, list[Analysis]]:
    """Analyses by kind: those in the study's folder in order of their names, and what stored predictions tell."""
    found: dict[str, list[Analysis]] = {kind: [] for kind in ANALYSES}
    for path in sorted(folder.glob("*.json")):
        written = read_analysis(path)
        found.setdefault(written.kind, []).append(written)
    stored: dict[tuple[str, str], dict[int, Predictions]] = {}
    sets: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for run in runs:
        for task in run.tasks:
            sets.setdefault((run.arm, task), set()).add(run.tasks)
    for run in runs:
        for task in run.tasks:
            name = f"{run.arm} ({run.model})" if run.model else run.arm
            name += f" on {'+'.join(run.tasks)}" if len(sets[run.arm, task]) > 1 else ""
            path = run.folder / "predictions" / f"{task}.parquet"
            stored.setdefault((name, task), {}).setdefault(run.seed, Predictions.from_parquet(path))
    for analysis in (calibration_analysis(stored), error_analysis(stored)):
        if analysis is not None:
            found[analysis.kind].append(analysis)
    return found
