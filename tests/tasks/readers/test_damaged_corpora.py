"""The readers of corpora with many files, whatever happens to one of them: checked examples or a DataFormatError."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.card import TaskSpec
from hf_crosstask.tasks.load import TaskData, load_task

NOTE = "Invented note.\nFelt drops 5 mg daily for itch.\n\nShe had a dry\ncough on felt drops.\n"
BRAT = (
    "T1\tDrug 15 25\tFelt drops\nT2\tStrength 26 30\t5 mg\nR1\tStrength-Drug Arg1:T2 Arg2:T1\n"
    "T3\tADE 58 61;62 67\tdry cough\n"
    "E1\tADE:T3 Theme:T4\nT4\tDrug 71 81\tfelt drops\nA1\tSure E1 Very\nM1\tOld T1\nN1\tReference T1 ATC:B0\tFelt drops\n"
    "#1\tAnnotatorNotes T1\tsure?\n*\tEquiv T1 T4\n"
)


def anafora(note: str) -> str:
    def entity(number: int, span: str, type: str, properties: str) -> str:
        return (
            f"<entity><id>{number}@e@{note}@gold</id><span>{span}</span><type>{type}</type>"
            f"<parentsType>TemporalEntities</parentsType><properties>{properties}</properties></entity>\n"
        )

    relation = (
        f"<relation><id>1@r@{note}@gold</id><type>TLINK</type><properties><Source>2@e@{note}@gold</Source>"
        f"<Type>CONTAINS</Type><Target>1@e@{note}@gold</Target></properties></relation>\n"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<data>\n<annotations>\n'
        + entity(1, "15,19;20,25", "EVENT", "<DocTimeRel>BEFORE</DocTimeRel><Degree></Degree>")
        + entity(2, "31,36", "TIMEX3", "<Class>SET</Class>")
        + relation
        + "</annotations>\n</data>\n"
    )


def ddi(name: str, pairs: str) -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<document id="{name}">\n<sentence id="{name}.s0" text="Felt raises oil, '
        'the beta- and mu-salt.&#xd;&#xa;">\n'
        f'<entity id="{name}.e0" charOffset="0-3" type="drug" text="Felt"/>\n'
        f'<entity id="{name}.e1" charOffset="12-14" type="brand" text="oil"/>\n'
        f'<entity id="{name}.e2" charOffset="21-25;34-37" type="group" text="beta-salt"/>\n{pairs}</sentence>\n'
        f'<sentence id="{name}.s1" text=""/>\n</document>\n'
    )


def pair(name: str, number: int, ends: tuple[int, int], ddi: str) -> str:
    return f'<pair id="{name}.p{number}" e1="{name}.e{ends[0]}" e2="{name}.e{ends[1]}" {ddi}/>\n'


DOCTYPE = "<!DOCTYPE xml [\n<!ELEMENT xml (OrgQuestion*)>\n<!ATTLIST xml version CDATA #REQUIRED>\n]>\n"


def cqa(question: str, labels: tuple[str, str, str], extra: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\r\n{DOCTYPE}<xml version="1.0">\r\n<OrgQuestion ORGQ_ID="{question}">\r\n'
        "<OrgQSubject>Felt?</OrgQSubject><OrgQBody>Where &amp; when?</OrgQBody>\r\n"
        f'<Thread THREAD_SEQUENCE="{question}_R3"{extra}><RelQuestion RELQ_ID="{question}_R3" RELQ_RANKING_ORDER="3" '
        f'RELQ_CATEGORY="Pets" RELQ_RELEVANCE2ORGQ="{labels[0]}"><RelQSubject>Oil {question}</RelQSubject><RelQBody/>'
        f'</RelQuestion>\r\n<RelComment RELC_ID="{question}_R3_C1" RELC_RELEVANCE2ORGQ="{labels[1]}" '
        f'RELC_RELEVANCE2RELQ="{labels[2]}"><RelCText>At the felt shop.</RelCText></RelComment>\r\n</Thread>\r\n'
        "</OrgQuestion>\r\n</xml>\r\n"
    )


STEM = "SemEval2016-Task3-CQA-QL"
SLOTS_2015 = "no|null|patient|null|yes|26-30|unmarked|null|slight|null|false|null|false|null|C1234567|15-19"
NOTES = {"train": NOTE, "test": NOTE}
SHARE = {f"{split}/{split}1.text": NOTE for split in NOTES}
BINARY = json.dumps(
    {"question": "Felt?", "options": {"A": "x", "B": "y", "C": "z", "D": "v"}, "answer_idx": "B", "answer": "y"}
)
MEDMCQA = {"id": "1", "question": "Felt?", "opa": "x", "opb": "y", "opc": "z", "opd": "v", "cop": 2, "exp": None}
PUBTATOR = (
    "11|t|Felt helps itch\n11|a|Felt oil | cures itch.\n"
    "11\t0\t4\tFelt\tChemical\tMESH:D1\n11\t11\t15\titch\tDisease\tD2|D3\n"
    "11\t16\t24\tFelt oil\tChemical\t-1\tFelt|oil\n11\tCID\tD1\tD2\n\n12|t|Nothing\n12|a|\n"
)

CORPORA: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "jnlpba": (
        {
            "Genia4ERtask2.iob2": "###MEDLINE:91\n\nFelt\tB-protein\nbinds\tO\n\nIt\tO\n\n###MEDLINE:92\n\nOil\tB-DNA\n",
            "Genia4EReval2.iob2": "###MEDLINE:93\n\nThe\tO\nsalt\tB-RNA\nA\tI-RNA\n",
            "devel.tsv": "-DOCSTART-\tO\n\nO\tB-DNA\nil\tI-DNA\n",
            "MUID-PMID-map.txt": "91\t1001\n93\t1003\n",
        },
        {"name": "jnlpba"},
    ),
    "ddi": (
        {
            "Train/DrugBank/a.xml": ddi("D.d1", pair("D.d1", 0, (0, 1), 'ddi="true" type="effect"')),
            "Train/DrugBank/b.xml": ddi("D.d2", pair("D.d2", 0, (0, 2), 'ddi="false"')),
            "Test/Test for DDI Extraction task/MedLine/77.xml": ddi(
                "DDI-MedLine.d3", pair("DDI-MedLine.d3", 0, (1, 2), 'ddi="true" type="int"')
            ),
            "Test/Test for DrugNER task/DrugBank/c.xml": ddi("D.d4", pair("D.d4", 0, (0, 1), 'ddi="false"')),
        },
        {"name": "ddi", "options": {"validation_documents": 0}},
    ),
    "gad": (
        {
            "1/train.tsv": 'A "@GENE$" is x\t1\nB is y\t0\nC is z\t1\nB is y\t0\n',
            "1/test.tsv": "index\tsentence\tlabel\n0\tD is x\t1\n1\tE is y\t0\n",
            "1/dev.tsv": "",
        },
        {"name": "gad", "options": {"validation": 1}},
    ),
    "hoc": (
        {
            "text/1.txt": "Felt grows .\nNo .\n",
            "labels/1.txt": "<Resisting cell death--Apoptosis ANDCellular energetics--< NULL",
            "text/2.txt": "Oil spreads .\n",
            "labels/2.txt": "<  Inducing angiogenesis--By felt",
            "splits_blurb.tsv": "1\ttrain\n2\ttest\n",
        },
        {"name": "hoc"},
    ),
    "biosses": (
        {
            "biosses_pairs_scores.tsv": "id\tsentence1\tsentence2\tA\tB\tC\tD\tE\tmean\n"
            '1\tFelt "x\tOil.\t4\t4\t4\t4\t3\t3.8\n2\tA.\tB.\t0\t0\t1\t0\t0\t0.2\n',
            "splits_blurb.tsv": "1\ttrain\t3.8\n2\ttest\t0.2\n",
        },
        {"name": "biosses"},
    ),
    **{
        f"cqa_{subtask}": (
            {
                f"{STEM}-train-part2.xml": cqa("Q1", ("PerfectMatch", "Good", "Bad")),
                f"{STEM}-dev.xml": cqa("Q2", ("Irrelevant", "PotentiallyUseful", "Good")),
                f"{STEM}-test-input.xml": cqa("Q3", ("?", "?", "?")),
                f"{STEM}-test.xml.subtask{subtask}.relevancy": gold,
            },
            {"name": "semeval2017t3", "options": {"subtask": subtask}},
        )
        for subtask, gold in {
            "A": "Q3_R3\tQ3_R3_C1\t1\t1\ttrue\n",
            "B": "Q3\tQ3_R3\t3\t0.333\tfalse\n",
            "C": "Q3\tQ3_R3_C1\t301\t0.003\ttrue\n",
        }.items()
    },
    "brat": (
        {"train/a.txt": NOTE, "train/a.ann": BRAT, "test_2020/b.txt": NOTE, "test_2020/b.ann": BRAT},
        {"name": "mine", "type": "ner", "reader": "brat", "labels": ["Drug", "Strength", "ADE"]},
    ),
    "brat_pairs": (
        {"train/a.txt": NOTE, "train/a.ann": BRAT},
        {
            "name": "mine",
            "type": "relation",
            "reader": "brat",
            "labels": ["no", "Strength-Drug", "Theme"],
            "negative_label": "no",
            "options": {"distance": 2},
        },
    ),
    "anafora": (
        {f"{split}/ID{n}/ID{n}": NOTE for n, split in enumerate(("Train", "Dev"))}
        | {
            f"{split}/ID{n}/ID{n}.Temporal-Relation.gold.completed.xml": anafora(f"ID{n}")
            for n, split in enumerate(("Train", "Dev"))
        },
        {"name": "semeval2016t12"},
    ),
    "share2014": (
        SHARE
        | {
            f"{split}/{split}1.pipe": f"{split}1.txt||Disease_Disorder||C0000001||58||61||62||67\n"
            f"{split}1.txt||Disease_Disorder||CUI-less||42||46\n"
            for split in NOTES
        },
        {"name": "semeval2014t7"},
    ),
    "share2015": (
        SHARE | {f"{split}/{split}1.pipe": f"{split}1.text|58-61,62-67|C0000001|{SLOTS_2015}|\n" for split in NOTES},
        {"name": "semeval2015t14"},
    ),
    "pubtator": (
        {"train.txt": PUBTATOR, "test.txt": PUBTATOR},
        {"name": "mine", "type": "ner", "reader": "pubtator", "labels": ["Chemical", "Disease"]},
    ),
    "pubtator_pairs": (
        {"train.pubtator": PUBTATOR},
        {
            "name": "mine",
            "type": "relation",
            "reader": "pubtator",
            "labels": ["no", "CID"],
            "negative_label": "no",
            "options": {"pairs": [["Chemical", "Disease"]]},
        },
    ),
    "pubmed_rct": (
        {
            "train.txt": "###11\nMETHODS\tFelt .\nRESULTS\tIt fell .\n\n###12\nMETHODS\tOil .\n",
            "dev.txt": "###13\nRESULTS\tA\n",
        },
        {"name": "pubmed_rct"},
    ),
    "medqa": (
        {"US/train.jsonl": BINARY + "\n", "US/test.jsonl": BINARY.replace("Felt", "Oil") + "\n"},
        {
            "name": "medqa",
            "options": {"choices": 4},
            "path": {"train": "task/US/train.jsonl", "test": "task/US/test.jsonl"},
        },
    ),
    "medmcqa": (
        {"train.json": json.dumps(MEDMCQA) + "\n", "dev.json": json.dumps(MEDMCQA | {"id": "2"}) + "\n"},
        {"name": "medmcqa"},
    ),
    "medtext": ({"x.csv": 'Prompt,Completion\n"Felt, a","b ""c"""\nOil,d\n'}, {"name": "medtext"}),
    "medical_qa": (
        {"x.jsonl": '{"instruction": "Say", "input": "felt", "output": "x"}\n{"instruction": "Oil", "output": "y"}\n'},
        {"name": "medical_qa"},
    ),
}
PIECES = [
    b"",
    b"\t",
    b"\n",
    b"\r\n",
    b"|",
    b"||",
    b'"',
    b"<",
    b"&",
    b"&felt;",
    b"0",
    b"-1",
    b"T9",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"null",
    b"###MEDLINE:91\n",
    b"9" * 50,
]
SETTINGS = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def read(files: Mapping[str, bytes], spec: Mapping[str, Any]) -> TaskData:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / "task" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return load_task(TaskSpec(**({"path": "task"} | dict(spec))), data_dir=Path(folder))


def bytes_of(files: Mapping[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()}


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` cut off, with a stretch replaced, doubled or removed, or with two stretches swapped."""
    start = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(["cut", "swap", "replace", "replace", "replace"]))
    if kind == "cut":
        return content[:start]
    middle = draw(st.integers(start, min(len(content), start + draw(st.sampled_from([0, 1, 4, 200])))))
    if kind == "swap":
        end = draw(st.integers(middle, min(len(content), middle + 20)))
        return content[:start] + content[middle:end] + content[start:middle] + content[end:]
    piece = draw(st.sampled_from([*PIECES, content[start:middle] * 2]) | st.binary(max_size=4))
    return content[:start] + piece + content[middle:]


@SETTINGS
@given(data=st.data())
def test_damage(data: st.DataObject) -> None:
    files, spec = CORPORA[data.draw(st.sampled_from(sorted(CORPORA)))]
    broken = data.draw(st.sampled_from(sorted(files)))
    content = bytes_of(files)
    content[broken] = data.draw(damage(content[broken]))
    try:
        loaded = read(content, spec)
    except DataFormatError as error:
        message = str(error)
    else:
        message = ""
        assert all(len(rows) > 0 for rows in loaded.splits.values())
    assert message.count("\n") == 0, "one line"


def gist(data: TaskData) -> dict[str, list[Any]]:
    """What must survive a change of line ends: everything but these."""
    return {
        split: [
            (
                row["id"],
                " ".join(row["text"].split()),
                [
                    (e["type"], [" ".join(part.split()) for part in e["text"]], e["attributes"])
                    for e in row["entities"]
                ],
                [(r["type"], r["head"], r["tail"]) for r in row["relations"]],
                row["labels"],
                row["score"],
                row["answer"],
            )
            for row in rows
        ]
        for split, rows in data.splits.items()
    }


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_undamaged(name: str) -> None:
    files, spec = CORPORA[name]
    loaded = read(bytes_of(files), spec)
    assert loaded.fingerprint
    assert all(len(rows) > 0 for rows in loaded.splits.values())


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_line_ends_of_windows_change_nothing(name: str) -> None:
    files, spec = CORPORA[name]
    loaded = read(bytes_of(files), spec)
    windows = {file: text.replace("\r\n", "\n").replace("\n", "\r\n") for file, text in files.items()}
    assert gist(read(bytes_of(windows), spec)) == gist(loaded)


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_byte_order_mark_changes_nothing(name: str) -> None:
    files, spec = CORPORA[name]
    loaded = read(bytes_of(files), spec)
    marked = {file: b"\xef\xbb\xbf" + text.encode() for file, text in files.items() if text}
    assert read(bytes_of(files) | marked, spec).fingerprint == loaded.fingerprint


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_other_encoding_is_an_error(name: str) -> None:
    files, spec = CORPORA[name]
    for file, text in files.items():
        if text and not file.endswith(".xml"):
            with pytest.raises(DataFormatError, match=r"UTF-8|utf-8|NUL"):
                read(bytes_of(files) | {file: text.encode("utf-16")}, spec)
            with pytest.raises(DataFormatError, match="not valid utf-8"):
                read(bytes_of(files) | {file: text.encode() + b"\xe9"}, spec)


BOMB = '<!DOCTYPE data [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>\n'
EXTERNAL = [
    '<!DOCTYPE data [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n',
    '<!DOCTYPE data SYSTEM "http://127.0.0.1:9/x.dtd">\n',
    '<!DOCTYPE data [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x.dtd"> %a;]>\n',
    '<!DOCTYPE data PUBLIC "-//x" "x.dtd">\n',
]


@pytest.mark.parametrize("name", ["ddi", "anafora", "cqa_A"])
@pytest.mark.parametrize("doctype", [BOMB, *EXTERNAL])
def test_dangerous_xml_is_refused(name: str, doctype: str) -> None:
    files, spec = CORPORA[name]
    for file, text in files.items():
        if file.endswith(".xml") and "DrugNER" not in file:  # that part is not read
            head, _, body = text.replace(DOCTYPE, "").partition("?>")
            bomb = f"{head}?>{doctype}{body}".replace("Felt", "&c;" if doctype is BOMB else "&a;")
            with pytest.raises(
                DataFormatError, match=r"declares the entity|refers to an external|no such declaration"
            ):
                read(bytes_of(files) | {file: bomb.encode()}, spec)
