"""Invented corpora in the original formats of the credentialed and large tasks: a few short texts a split each."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DRUGS = ("glorin", "mavinol", "feltase", "tarnwort")
ILLS = ("bleeding", "dry cough", "marsh fever", "chest pain")
SIZES = {"train": 4, "dev": 2, "test": 3}
ATTRIBUTES = ["DocTimeRel", "Type", "Degree", "Polarity", "ContextualModality", "ContextualAspect", "Permanence"]
Files = dict[str, str]


@dataclass
class Note:
    """A text under construction, and the (type, start, end) of what was said in it."""

    text: str = ""
    mentions: list[tuple[str, int, int]] = field(default_factory=list)

    def say(self, words: str, type: str | None = None) -> int:
        """Append words; the number of the mention, from 0."""
        start = len(self.text)
        self.text += words
        if type is not None:
            self.mentions.append((type, start, len(self.text)))
        return len(self.mentions) - 1

    def spans(self) -> list[str]:
        """The mentions as `T` lines of brat."""
        return [
            f"T{number}\t{type} {start} {end}\t{self.text[start:end]}"
            for number, (type, start, end) in enumerate(self.mentions, start=1)
        ]


def ade(chance: random.Random, name: str) -> Files:
    """A discharge summary of n2c2 2018 Track 2."""
    note, relations = Note("Discharge.\n"), []
    for _ in range(3):
        note.say("Started on ")
        drug = note.say(chance.choice(DRUGS), "Drug")
        for type, words in (("Strength", "10 mg"), ("Frequency", "daily"), ("Reason", chance.choice(ILLS))):
            note.say(" for " if type == "Reason" else " ")
            relations.append((f"{type}-Drug", note.say(words, type), drug))
        note.say(".\nThe ")
        harm = note.say(chance.choice(ILLS), "ADE")
        note.say(" came from ")
        relations.append(("ADE-Drug", harm, note.say(chance.choice(DRUGS), "Drug")))
        note.say(".\n")
    lines = note.spans() + [f"R{n}\t{t} Arg1:T{a + 1} Arg2:T{b + 1}" for n, (t, a, b) in enumerate(relations, start=1)]
    return {f"{name}.txt": note.text, f"{name}.ann": "\n".join(lines) + "\n"}


def cmed(chance: random.Random, name: str) -> Files:
    """A note of n2c2 2022 Track 1: every slot has at least two values in a few notes."""
    note, lines, count = Note("Plan.\n"), [], 0
    kinds = ["Disposition", "NoDisposition", "Disposition", "Undetermined"]
    for number, kind in enumerate(kinds, start=1):
        note.say("We may discuss ")
        note.say(chance.choice(DRUGS), kind)
        note.say(" next week.\n")
        lines += [note.spans()[-1], f"E{number}\t{kind}:T{number} "]
        if kind == "Disposition":
            first = number == 1
            values = ("Start", "NotNegated", "Future", "Certain", "Physician")
            for slot, value, other in zip(
                ("Action", "Negation", "Temporality", "Certainty", "Actor"),
                values,
                ("Stop", "Negated", "Past", "Hypothetical", "Patient"),
                strict=True,
            ):
                count += 1
                lines.append(f"A{count}\t{slot} E{number} {value if first else other}")
    return {f"{name}.txt": note.text, f"{name}.ann": "\n".join(lines) + "\n"}


def thyme(chance: random.Random, name: str) -> Files:
    """A clinic note of THYME: contained events, one across sentences, and anchors that are not scored."""
    note = Note()
    note.say("April 23, 2010", "DOCTIME")
    note.say(".\n")
    note.say("HISTORY", "SECTIONTIME")
    note.say(".\n")
    links = []
    for _ in range(3):
        note.say("In ")
        time = note.say(chance.choice(("March", "May", "June")), "TIMEX3")
        note.say(" he had ")
        links.append((time, note.say(chance.choice(ILLS), "EVENT")))
        note.say(" and in ")
        later = note.say("August", "TIMEX3")
        note.say(" the ")
        links.append((later, note.say("surgery", "EVENT")))
        note.say(".\n")
    links.append((time, 3))  # the first event, sentences before: no candidate carries it
    entities, relations = [], []
    for number, (type, start, end) in enumerate(note.mentions):
        properties = {"Class": chance.choice(("DATE", "DURATION"))} if type == "TIMEX3" else {}
        if type == "EVENT":
            late = note.text[start:end] == "surgery"
            values = (
                ("AFTER", "EVIDENTIAL", "MOST", "NEG", "HEDGED") if late else ("BEFORE", "N/A", "N/A", "POS", "ACTUAL")
            )
            properties = dict(zip(ATTRIBUTES, (*values, "N/A", "UNDETERMINED"), strict=True))
        inner = "".join(f"<{key}>{value}</{key}>" for key, value in properties.items())
        entities.append(
            f"<entity><id>{number}@e@{name}@gold</id><span>{start},{end}</span><type>{type}</type>"
            f"<parentsType>TemporalEntities</parentsType><properties>{inner}</properties></entity>"
        )
    for number, (source, target) in enumerate(links):
        inner = f"<Source>{source}@e@{name}@gold</Source><Type>CONTAINS</Type><Target>{target}@e@{name}@gold</Target>"
        relations.append(
            f"<relation><id>{number}@r@{name}@gold</id><type>TLINK</type><parentsType>TemporalRelations</parentsType>"
            f"<properties>{inner}</properties></relation>"
        )
    xml = "\n".join(
        ['<?xml version="1.0"?>', "<data><annotations>", *entities, *relations, "</annotations></data>", ""]
    )
    return {f"{name}/{name}": note.text, f"{name}/{name}.Temporal-Relation.gold.completed.xml": xml}


def _disorders(chance: random.Random) -> tuple[str, list[tuple[list[tuple[int, int]], str]]]:
    """A text with plain and discontinuous disorders: spans and CUI."""
    note, found = Note("Findings.\n"), []
    for _ in range(3):
        ill = chance.choice(ILLS)
        first = note.say(ill, "x")
        note.say(" was noted, and the ")
        organ = note.say("liver", "x")
        note.say(" is ")
        state = note.say("enlarged", "x")
        note.say(".\n")
        spans = [(start, end) for _, start, end in note.mentions]
        found.append(([spans[first]], f"C{ILLS.index(ill):07}"))
        found.append(([spans[organ], spans[state]], "CUI-less"))
    return note.text, found


def share2014(chance: random.Random, name: str) -> Files:
    """A note of SemEval-2014 Task 7."""
    text, found = _disorders(chance)
    lines = [
        "||".join([f"{name}.txt", "Disease_Disorder", cui, *(str(edge) for span in spans for edge in span)])
        for spans, cui in found
    ]
    return {f"{name}.text": text, f"{name}.pipe": "\n".join(lines) + "\n"}


def share2015(chance: random.Random, name: str) -> Files:
    """A note of SemEval-2015 Task 14."""
    text, found = _disorders(chance)
    lines = []
    for spans, cui in found:
        values = (chance.choice(("no", "yes")), "patient", "no", "unmarked", "unmarked", "false", "false", "null")
        where = ",".join(f"{start}-{end}" for start, end in spans)
        lines.append("|".join([f"{name}.text", where, cui, *(cell for value in values for cell in (value, "null"))]))
    return {f"{name}.text": text, f"{name}.pipe": "\n".join(lines) + "\n"}


def cqa() -> Files:
    """Two new questions a split, each with two threads of three comments; the gold of the test part in files."""
    files: Files = {}
    for split in ("train", "dev", "test"):
        xml, gold = ['<?xml version="1.0"?>\n<xml>'], dict.fromkeys("ABC", "")
        for asked in (1, 2):
            for thread in (1, 2):
                new, related = f"{split}Q{asked}", f"{split}Q{asked}_R{thread}"
                hidden = split == "test"
                relevance = "Relevant" if thread == 1 else "Irrelevant"
                gold["B"] += f"{new}\t{related}\t{thread}\t{1 / thread:.3f}\t{str(thread == 1).lower()}\n"
                xml.append(
                    f'<OrgQuestion ORGQ_ID="{new}"><OrgQSubject>Visa {asked}</OrgQSubject><OrgQBody>How long?</OrgQBody>'
                    f'<Thread THREAD_SEQUENCE="{related}"><RelQuestion RELQ_ID="{related}" RELQ_RANKING_ORDER="{thread}" '
                    f'RELQ_CATEGORY="Visas" RELQ_RELEVANCE2ORGQ="{"?" if hidden else relevance}">'
                    f"<RelQSubject>Permit {thread}</RelQSubject><RelQBody>Anyone knows?</RelQBody></RelQuestion>"
                )
                for number in (1, 2, 3):
                    comment, good = f"{related}_C{number}", number != 2
                    word = "Good" if good else "Bad"
                    gold["A"] += f"{related}\t{comment}\t{number}\t{1 / number:.3f}\t{str(good).lower()}\n"
                    rank = 100 * thread + number
                    gold["C"] += f"{new}\t{comment}\t{rank}\t{1 / rank:.3f}\t{str(good).lower()}\n"
                    label = "?" if hidden else word
                    xml.append(
                        f'<RelComment RELC_ID="{comment}" RELC_RELEVANCE2ORGQ="{label}" RELC_RELEVANCE2RELQ="{label}">'
                        f"<RelCText>{'It takes two weeks.' if good else 'No idea, sorry.'}</RelCText></RelComment>"
                    )
                xml.append("</Thread></OrgQuestion>")
        stem = "SemEval2016-Task3-CQA-QL-" + {"train": "train-part1", "dev": "dev", "test": "test-input"}[split]
        files[f"{stem}.xml"] = "\n".join([*xml, "</xml>\n"])
        if split == "test":
            for subtask, lines in gold.items():
                infix = "-subtaskA" if subtask == "A" else ""
                files[f"SemEval2016-Task3-CQA-QL-test{infix}.xml.subtask{subtask}.relevancy"] = lines
    return files


def rct(split: str) -> str:
    """Abstracts of PubMed RCT."""
    abstracts = []
    for number in range(SIZES[split]):
        rows = [
            ("OBJECTIVE", "To see whether glorin helps ."),
            ("METHODS", "Patients were given felt ."),
            ("RESULTS", "Felt was warmer than none ."),
            ("CONCLUSIONS", "Glorin helps ."),
            ("BACKGROUND", "Much is unknown ."),
        ]
        pmid = 1000 * list(SIZES).index(split) + number + 1
        abstracts.append(f"###{pmid}\n" + "".join(f"{label}\t{text}\n" for label, text in rows))
    return "\n".join(abstracts)


def medqa(chance: random.Random, count: int) -> str:
    """Questions with five options."""
    rows = []
    for number in range(count):
        texts = chance.sample(("A smear", "An X-ray", "Rest", "Surgery", "Felt", "Honey"), 5)
        letter = chance.choice("ABCDE")
        options = dict(zip("ABCDE", texts, strict=True))
        record = {"question": f"Case {number}: a man with {chance.choice(ILLS)}. What next?", "options": options}
        rows.append(json.dumps(record | {"answer": options[letter], "answer_idx": letter, "meta_info": "step1"}))
    return "\n".join(rows) + "\n"


def medmcqa(chance: random.Random, count: int) -> str:
    """Questions with four options; the right one counts from 1."""
    rows = []
    for number in range(count):
        options = dict(zip(("opa", "opb", "opc", "opd"), chance.sample(("A", "B12", "C", "D", "K"), 4), strict=True))
        record = {"question": f"Which vitamin, {number}?", "cop": chance.randint(1, 4), "exp": None, **options}
        rows.append(json.dumps(record | {"id": f"q-{number}-{chance.random()}", "choice_type": "single"}))
    return "\n".join(rows) + "\n"


def instructions(count: int) -> tuple[str, str]:
    """The same prompts as MedText (CSV) and as medical_qa (JSON Lines)."""
    table, lines = io.StringIO(), []
    writer = csv.writer(table)
    writer.writerow(["Prompt", "Completion"])
    for number in range(count):
        prompt, answer = f'A {40 + number}-year-old says "it hurts", again.', f"Give {DRUGS[number % 4]}, then rest."
        writer.writerow([prompt, answer])
        lines.append(json.dumps({"instruction": "Answer briefly.", "input": prompt, "output": answer}))
    return table.getvalue(), "\n".join(lines) + "\n"


#: Folder of the task's card to the maker of a note and the split folders (train, dev, test).
NOTES: dict[str, tuple[Callable[[random.Random, str], Files], tuple[str, str, str], str]] = {
    "semeval2014_task7": (share2014, ("train", "devel", "test"), "{n:05}-DISCHARGE"),
    "semeval2015_task14/data": (share2015, ("train", "devel", "test"), "{n:05}-ECHO"),
    "semeval2016_task12_thyme": (thyme, ("Train", "Dev", "Test"), "ID{n:03}_clinic_001"),
    "n2c2_2018_track2": (ade, ("training_20180910", "dev", "test"), "{n}"),
    "n2c2_2022_track1": (cmed, ("train", "dev", "test"), "{n}-01"),
}


def write_all(folder: Path) -> Path:
    """Write every corpus below a folder, where the cards look for it; the folder."""
    files: Files = {f"semeval_cqa/{name}": text for name, text in cqa().items()}
    for place, (maker, splits, pattern) in NOTES.items():
        for number, (split, size) in enumerate(zip(splits, SIZES.values(), strict=True), start=1):
            for index in range(size):
                name = pattern.format(n=100 * number + index)
                made = maker(random.Random(f"{place}/{name}"), name)
                files |= {f"{place}/{split}/{file}": text for file, text in made.items()}
    for number, (split, size) in enumerate(SIZES.items()):
        files[f"pubmed_rct/{split}.txt"] = rct(split)
        files[f"medqa/US/{split}.jsonl"] = medqa(random.Random(number), 4 * size)
        files[f"medmcqa/{split}.json"] = medmcqa(random.Random(number), 4 * size)
    files["medtext/medtext.csv"], files["lavita_medical_qa/all-processed.jsonl"] = instructions(20)
    write_files(folder, files)
    return folder


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts as UTF-8 with their line ends as they are."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
