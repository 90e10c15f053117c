"""From a study's folder to what its report shows."""

from __future__ import annotations

from pathlib import Path

from hf_crosstask.evaluation.analysis import Analysis, read_analysis
from hf_crosstask.report.data import ANALYSES, Dose, ReportData, StudyRun
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
        analyses=_analyses(store.output_dir / FOLDER),
        doses=[Dose(**dose) for dose in doses(study, store)],
        price_per_hour=price_per_hour,
    )


def _analyses(folder: Path) -> dict[str, list[Analysis]]:
    """Analyses by kind, in order of their file names."""
    found: dict[str, list[Analysis]] = {kind: [] for kind in ANALYSES}
    for path in sorted(folder.glob("*.json")):
        analysis = read_analysis(path)
        found.setdefault(analysis.kind, []).append(analysis)
    return found
