"""Small invented corpora in the original formats, and a loader over files given as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

Files = Mapping[str, str | bytes]

IOB_TRAIN = "Glorin\tB-GENE\n-\tI-GENE\n2\tI-GENE\nbinds\tO\nfelt\tO\n.\tO\n\nNothing\tO\nhere\tO\n"
IOB_TEST = "The\tO\nmavin\tB-GENE\nrose\tO\n"

BC2GM_FILES: dict[str, str] = {
    "train/train.in": "P00000011T0000 Serum  glorin rose .\nP00000012A0100 No name here.\nP00000011A0007 Mavin A fell.\n",
    "train/GENE.eval": "P00000011T0000|5 10|glorin\nP00000011A0007|0 5|Mavin A\n",
    "train/ALTGENE.eval": "P00000011T0000|0 10|Serum glorin\nP00000011A0007|0 4|Mavin\nP00000012A0100|0 1|No\n",
    "test/test.in": "BC2GM1 Beta mavin and glorin.\n",
    "test/GENE.eval": "BC2GM1|4 8|mavin\n",
    "test/ALTGENE.eval": "BC2GM1|0 8|Beta mavin\nBC2GM1|12 17|glorin\n",
    "test/test.idmap": "P00000099A0001 BC2GM1\n",
    "devel-split/devel/devel.in": "P00000012A0100 No name here.\n",
}


def _chemprot_part(name: str, pmid: str) -> dict[str, str]:
    title, abstract = (
        "Felt salt and GLO1",
        'Zinc "x" blocks GLO1 and GLO2. In E. coli, zinc does nothing. GLO2 is new.',
    )
    text = f"{title} {abstract}"
    entities = [("T1", "CHEMICAL", "Felt salt"), ("T2", "GENE-Y", "GLO1"), ("T3", "CHEMICAL", "Zinc")]
    rows = [(n, t, text.index(m), text.index(m) + len(m), m) for n, t, m in entities]
    rows += [("T4", "GENE-N", text.rindex("GLO1"), text.rindex("GLO1") + 4, "GLO1")]
    rows += [("T5", "GENE-Y", text.index("GLO2"), text.index("GLO2") + 4, "GLO2")]
    rows += [("T6", "CHEMICAL", text.index("zinc"), text.index("zinc") + 4, "zinc")]
    stem = f"chemprot_{name}/chemprot_{name}"
    return {
        f"{stem}_abstracts.tsv": f"{pmid}\t{title}\t{abstract}\n",
        f"{stem}_entities.tsv": "".join(f"{pmid}\t{n}\t{t}\t{s}\t{e}\t{m}\n" for n, t, s, e, m in rows),
        f"{stem}_gold_standard.tsv": f"{pmid}\tCPR:4\tArg1:T3\tArg2:T4\n{pmid}\tCPR:3\tArg1:T3\tArg2:T4\n"
        f"{pmid}\tCPR:9\tArg1:T6\tArg2:T5\n",
    }


CHEMPROT_FILES: dict[str, str] = {
    **_chemprot_part("training", "11"),
    **_chemprot_part("development", "12"),
    **_chemprot_part("test_gs", "13"),
}


def _record(number: int, answer: str) -> dict[str, Any]:
    return {
        "QUESTION": f"Does felt help {number}?",
        "CONTEXTS": ["Felt was given.", "It\u2028was measured."],
        "LABELS": ["METHODS", "RESULTS"],
        "LONG_ANSWER": "LEAK",
        "reasoning_required_pred": "LEAK",
        "reasoning_free_pred": "LEAK",
        "final_decision": answer,
    }


PUBMEDQA_FILES: dict[str, str] = {
    "ori_pqal.json": json.dumps(
        {str(n): _record(n, answer) for n, answer in enumerate(["yes", "no", "maybe", "yes", "no"], start=1)}
    ),
    "test_ground_truth.json": json.dumps({"4": "yes", "5": "no"}),
    "cv_folds_dev_pmids.json": json.dumps({"dev": {"0": ["3"], "1": ["2"]}}),
}


def write_files(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., TaskData]:
    """`load(files, name=…, reader=…, …)`: write the files to a folder, and load the task from it."""

    def load_files(files: Files, **spec: Any) -> TaskData:
        write_files(tmp_path / "task", files)
        return load_task(TaskSpec(**({"path": "task"} | spec)), data_dir=tmp_path)

    return load_files


@pytest.fixture(scope="session")
def corpora() -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Name to (files, task): one small valid corpus per reader of text files."""
    csv = 'text,label,who\n"Felt, again",good,a\nCold,bad,b\n'
    rows = [
        {"text": "Felt rose.", "entities": [{"start": 0, "end": 4, "type": "THING"}]},
        {"text": "None.", "entities": []},
    ]
    jsonl = "".join(json.dumps(row) + "\n" for row in rows)
    ner = {"type": "ner", "labels": ["THING"]}
    binary = {"type": "classification", "labels": ["good", "bad"], "columns": {"text": "text", "labels": "label"}}
    return {
        "bc2gm": (
            {"train.tsv": IOB_TRAIN, "devel.tsv": IOB_TEST, "test.tsv": IOB_TEST},
            {"name": "bc2gm", "path": "task"},
        ),
        "bc2gm_original": (
            BC2GM_FILES,
            {"name": "bc2gm", "path": "task", "options": {"variant": "original"}},
        ),
        "chemprot": (CHEMPROT_FILES, {"name": "chemprot", "path": "task"}),
        "pubmedqa": (PUBMEDQA_FILES, {"name": "pubmedqa", "path": "task"}),
        "iob": (
            {"train.conll": IOB_TRAIN, "dev.conll": IOB_TEST},
            {"name": "mine", "type": "ner", "reader": "iob", "path": "task", "labels": ["GENE"]},
        ),
        "csv": ({"train.csv": csv, "test.csv": csv}, {"name": "mine", "reader": "csv", "path": "task", **binary}),
        "tsv": (
            {"train.tsv": 'text\tlabel\twho\n"Felt\tgood\ta\nCold\tbad\tb\n'},
            {"name": "mine", "reader": "tsv", "path": "task", **binary},
        ),
        "jsonl": ({"train.jsonl": jsonl}, {"name": "mine", "reader": "jsonl", "path": "task", **ner}),
    }
