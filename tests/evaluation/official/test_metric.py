"""Every official scorer as an evaluate.Metric, without network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.errors import DataFormatError, InputError
from hf_crosstask.evaluation.official import metric
from hf_crosstask.evaluation.official.metric import CONFIGS, OfficialScorer

XML = (
    "<data><annotations><entity><id>1</id><span>0,4</span><type>EVENT</type><properties><DocTimeRel>AFTER</DocTimeRel>"
    "</properties></entity></annotations></data>"
)
TEMPLATE = "no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null"
#: For each scorer: references, predictions, and one value.
CASES: dict[str, tuple[list[Any], list[Any], str, float]] = {
    "cqa": (["q\ta\t1\t1\ttrue", "q\tb\t2\t0.5\tfalse"], ["q\ta\t0\t1\ttrue", "q\tb\t0\t2\ttrue"], "map", 0.5),
    "share2014": (["a||D||C1||0||4", "b||D||C2||6||9"], ["a||D||C1||0||4", ""], "strict_recall", 0.5),
    "share2015_task1": (["a|0-5|C1\na|8-9|C2"], ["a|0-5|C1"], "strict_recall", 0.5),
    "share2015_task2": ([f"a|0-5|C1|{TEMPLATE}"], [f"a|1-5|C2|{TEMPLATE}"], "f1_accuracy", 8 / 9),
    "thyme": ([XML, XML], [XML, XML.replace("AFTER", "BEFORE")], "dr_f1", 0.5),
    "ade2018": (
        ["T1\tDrug 0 4\tx", "T1\tDrug 0 4\tx"],
        ["T1\tDrug 2 4\tx", "T1\tDrug 0 4\tx"],
        "strict_entity_f1",
        0.5,
    ),
    "cmed2022": (["T1\tDrug 0 4\tx\nE1\tDisposition:T1 "], ["T1\tDrug 0 4\tx"], "strict_event_f1", 0.0),
    "ddi": (["d.s|a|b|1|effect", "d.s|a|c|0|null"], ["d.s|a|b|1|effect", "d.s|a|c|1|int"], "micro_precision", 0.5),
    "chemprot": (["1\tCPR:3\tArg1:T1\tArg2:T2"], ["1\tCPR:3\tArg1:T1\tArg2:T2"], "f1", 1.0),
    "hoc": ([["cellular energetics"], []], [["cellular energetics"], ["cellular energetics"]], "micro_precision", 0.5),
    "similarity": ([1, 2, 3], [3, 2, 1], "pearson", -1.0),
    "multiple_choice": (["A", "B"], ["A", None], "accuracy", 0.5),
    "rouge": (["a b"], ["a"], "rouge1_recall", 0.5),
    "bleu": ([["a b c d", "x"]], ["a b c d"], "bleu", 1.0),
}


def test_every_scorer_has_a_case() -> None:
    assert CASES.keys() == CONFIGS.keys()


@pytest.mark.parametrize("name", CASES)
def test_compute(name: str, tmp_path: Path) -> None:
    references, predictions, key, expected = CASES[name]
    scorer = OfficialScorer(config_name=name, cache_dir=str(tmp_path))
    values = scorer.compute(predictions=predictions, references=references)
    assert values[key] == pytest.approx(expected)
    assert {type(value) for value in values.values()} == {float}
    perfect = OfficialScorer(config_name=name, cache_dir=str(tmp_path)).compute(
        predictions=[item[0] if name == "bleu" else item for item in references], references=references
    )
    assert all(0 <= value <= 1 for measure, value in perfect.items() if measure != "length_ratio")
    assert perfect[key] == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"cqa", "similarity"}))
def test_an_empty_prediction_is_no_prediction(name: str) -> None:
    references = CASES[name][0]
    values = CONFIGS[name].score(references, [[] if name == "hoc" else "" for _ in references])
    assert values[CASES[name][2]] == 0.0


def test_batches(tmp_path: Path) -> None:
    scorer = OfficialScorer(config_name="multiple_choice", cache_dir=str(tmp_path))
    scorer.add_batch(predictions=["A", None], references=["A", "B"])
    scorer.add(prediction="B", reference="B")
    assert scorer.compute()["accuracy"] == pytest.approx(2 / 3)


def test_errors_name_the_side_and_the_scorer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'cqa'"):
        OfficialScorer(config_name="cqaa", cache_dir=str(tmp_path))
    with pytest.raises(DataFormatError, match=r"predictions\[1\]"):
        metric.CONFIGS["ade2018"].score(["", ""], ["", "T1"])


def test_importing_a_scorer_imports_no_heavy_library() -> None:
    modules = "ade2018 anafora bleu chemprot cmed2022 cqa ddi hoc multiple_choice rouge share2014 share2015 similarity"
    code = (
        "import sys\n"
        + "".join(f"import hf_crosstask.evaluation.official.{name}\n" for name in modules.split())
        + "print(sorted({'evaluate', 'datasets', 'torch', 'scipy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
