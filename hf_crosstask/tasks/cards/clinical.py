"""Cards of the clinical tasks. Their notes are credentialed: nothing is ever fetched, the card says how to apply."""

from __future__ import annotations

from typing import Any

from hf_crosstask.tasks.card import Published, TaskCard

_N2C2 = (
    "Sign the data use agreement of the n2c2 challenges at https://portal.dbmi.hms.harvard.edu (DBMI Data Portal), "
    "download {what} and unpack it to <data_dir>/{folder}, one folder per split ({splits})."
)
_SHARE = (
    "Become a credentialed user of PhysioNet (training course and data use agreement for MIMIC), apply for {what}, and "
    "put the pairs of .text and .pipe files below <data_dir>/{folder}, one folder per split (train, devel, test)."
)
_THYME = (
    "Ask Mayo Clinic for the notes (ClinicalNLP@mayo.edu; data use agreement; students work with an established "
    "investigator), unpack them without touching line ends, and put the annotations of stylerw/thymedata beside them: "
    "<data_dir>/semeval2016_task12_thyme/<Train|Dev|Test>/<note>/<note> and <note>.Temporal-*.xml."
)


def _card(
    name: str, type: str, description: str, labels: tuple[str, ...], metrics: tuple[str, ...], **fields: Any
) -> TaskCard:
    return TaskCard(
        **{
            "name": name,
            "type": type,
            "level": 1 if type in ("ner", "span_ner") else 2,
            "description": description,
            "labels": labels,
            "primary_metric": metrics[0],
            "secondary_metrics": metrics[1:],
            "access": "credentialed",
            **fields,
        }
    )


_SHARE_2014: dict[str, Any] = {
    "reader": "share2014",
    "path": "semeval2014_task7",
    "options": {"corpus": "share"},
    "licence": "PhysioNet credentialed health data use agreement",
    "provenance": "mimic",
}
_THYME_FIELDS: dict[str, Any] = {
    "reader": "anafora",
    "path": "semeval2016_task12_thyme",
    "licence": "Mayo Clinic data use agreement (notes); annotations are open",
    "provenance": "mayo",
    "homepage": "https://github.com/stylerw/thymedata",
    "obtain": _THYME,
}
_ADE_FIELDS: dict[str, Any] = {
    "reader": "brat",
    "path": "n2c2_2018_track2",
    "licence": "n2c2 data use agreement",
    "provenance": "mimic",
    "homepage": "https://n2c2.dbmi.hms.harvard.edu",
    "obtain": _N2C2.format(
        what="2018 (Track 2) ADE and Medication Extraction",
        folder="n2c2_2018_track2",
        splits="training_20180910, test",
    ),
}
_CMED_FIELDS: dict[str, Any] = {
    "reader": "brat",
    "path": "n2c2_2022_track1",
    "licence": "n2c2 data use agreement",
    "provenance": "i2b2-2014",
    "homepage": "https://n2c2.dbmi.hms.harvard.edu/2022-challenge",
    "obtain": _N2C2.format(
        what="2022 (Track 1) Contextualized Medication Event Extraction",
        folder="n2c2_2022_track1",
        splits="train, dev, test",
    ),
}
#: THYME attribute to the metric prefix of its official scores.
_THYME_ATTRIBUTES = {
    "Class": "ta_class",
    "ContextualModality": "ea_modality",
    "Degree": "ea_degree",
    "Polarity": "ea_polarity",
    "Type": "ea_type",
}
#: Task name to part, mention, attribute and its values (THYME annotation guidelines).
_THYME_TASKS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "class": ("TA", "TIMEX3", "Class", ("DATE", "TIME", "DURATION", "QUANTIFIER", "PREPOSTEXP", "SET")),
    "modality": ("EA", "EVENT", "ContextualModality", ("ACTUAL", "HYPOTHETICAL", "HEDGED", "GENERIC")),
    "degree": ("EA", "EVENT", "Degree", ("N/A", "LITTLE", "MOST")),
    "polarity": ("EA", "EVENT", "Polarity", ("POS", "NEG")),
    "type": ("EA", "EVENT", "Type", ("N/A", "ASPECTUAL", "EVIDENTIAL")),
}
_CHEN = "Chen et al. 2023, J Biomed Inform 142:104370, abstract"
_HENRY = "Henry et al. 2020, JAMIA 27(1), doi 10.1093/jamia/ocz166, abstract"
_DRUG_RELATIONS = ("Strength", "Form", "Dosage", "Duration", "Frequency", "Route", "ADE", "Reason")

#: Slot of a medication change to its values (Mahajan et al. 2020, arXiv:2011.08835).
CMED_SLOTS: dict[str, tuple[str, ...]] = {
    "Action": ("Start", "Stop", "Increase", "Decrease", "UniqueDose", "OtherChange", "Unknown"),
    "Negation": ("Negated", "NotNegated"),
    "Temporality": ("Past", "Present", "Future", "Unknown"),
    "Certainty": ("Certain", "Hypothetical", "Conditional", "Unknown"),
    "Actor": ("Physician", "Patient", "Unknown"),
}

_ADE = _card(
    "n2c2_2018_ade",
    "ner",
    "n2c2 2018 Track 2: drugs, their properties, adverse events and reasons in discharge summaries; examples are whole "
    "notes and carry the gold relations, which n2c2_2018_ade_relation learns and scores. The official evaluation takes a "
    "discontinuous mention from its first to its last character. A few mentions of the distribution are said to differ "
    "from the text at their offsets; the offsets count.",
    ("Drug", "Strength", "Form", "Dosage", "Duration", "Frequency", "Route", "ADE", "Reason"),
    ("lenient_f1", "strict_f1"),
    official="ade2018",
    **_ADE_FIELDS,
    options={"corpus": "n2c2_2018", "mention_text": "offsets"},
    published_counts={"train": {"documents": 303}, "test": {"documents": 202}},
    best_published=Published(metric="lenient_f1", value=0.9418, system="best of the shared task", source=_HENRY),
)
_CMED = _card(
    "n2c2_2022_cmed",
    "ner",
    "n2c2 2022 Track 1 (CMED), end to end: medication mentions, and whether a change of them is discussed (the entity's "
    "type); examples are whole notes. The five slots of a change (and Combined: all five right) are scored with each "
    "slot's commonest value of the training notes; n2c2_2022_cmed_event and n2c2_2022_cmed_<slot> learn them with gold "
    "mentions, the parts that the track calls Event and Context classification.",
    ("Disposition", "NoDisposition", "Undetermined"),
    tuple(f"{mode}_{part}_f1" for mode in ("strict", "lenient") for part in ("event", "drug", "combined")),
    official="cmed2022",
    **_CMED_FIELDS,
    options={"corpus": "n2c2_2022"},
    published_counts={"train+validation+test": {"documents": 500, "entities": 9_013}},
    best_published=Published(
        metric="medication_f1", value=0.9828, system="GatorTron", source=f"{_CHEN} (mentions; events 0.9379)"
    ),
)

CARDS: tuple[TaskCard, ...] = (
    _card(
        "semeval2014t7",
        "span_ner",
        "SemEval-2014 Task 7 (ShARe): disorder mentions, discontinuous and overlapping ones included, with CUIs. Its test "
        "notes are the development notes of SemEval-2015 Task 14.",
        ("Disease_Disorder",),
        ("entity_f1", "relaxed_f1", "cui_accuracy", "cui_accuracy_relaxed"),
        **_SHARE_2014,
        official="share2014",
        homepage="https://alt.qcri.org/semeval2014/task7/",
        obtain=_SHARE.format(what="the ShARe/CLEF eHealth corpus", folder="semeval2014_task7"),
        published_counts={
            "train": {"documents": 199},
            "validation": {"documents": 99},
            "test": {"documents": 133},
        },
        best_published=Published(
            metric="entity_f1",
            value=0.813,
            system="UTH_CCB",
            source="Pradhan et al. 2014, SemEval-2014 Task 7, abstract",
        ),
    ),
    _card(
        "semeval2015t14",
        "span_ner",
        "SemEval-2015 Task 14 (ShARe): disorder mentions with CUIs and eight attributes. Task 1 wants span and CUI right, "
        "so its F1 is not comparable with that of 2014; Task 2 fills the attributes.",
        ("Disease_Disorder",),
        ("task1_strict_f1", "task1_relaxed_f1", "task2_f1_weighted_accuracy", "task2_weighted_accuracy"),
        **(_SHARE_2014 | {"reader": "share2015", "path": "semeval2015_task14"}),
        official="share2015",
        homepage="https://alt.qcri.org/semeval2015/task14/",
        obtain=_SHARE.format(what="the data of SemEval-2015 Task 14", folder="semeval2015_task14/data"),
        published_counts={"validation": {"documents": 133}, "test": {"documents": 100}},
        best_published=Published(
            metric="task1_strict_f1",
            value=0.757,
            system="best of the shared task, Task 1",
            source="Elhadad et al. 2015, SemEval-2015 Task 14, abstract",
        ),
    ),
    _card(
        "semeval2016t12",
        "ner",
        "SemEval-2016 Task 12 (Clinical TempEval, THYME): time expressions and events in oncology notes (TS, ES, phase "
        "1); examples are whole notes. Attributes (TA, EA, DR) are scored with the values that the same words have in the "
        "training notes, as the task's memorize baseline does. semeval2016t12_class (TA), _modality, _degree, _polarity, "
        "_type (EA), _doctimerel (DR) and _contains (CR) learn them with gold mentions (phase 2). SECTIONTIME and DOCTIME "
        "anchor relations, are no part of the evaluation and are left out.",
        ("EVENT", "TIMEX3"),
        ("es_f1", "ts_f1", *(f"{part}_f1" for part in _THYME_ATTRIBUTES.values()), "dr_f1"),
        **_THYME_FIELDS,
        official="thyme2016",
        options={"corpus": "thyme", "types": {"SECTIONTIME": None, "DOCTIME": None}},
        published_counts={
            "train": {"documents": 293},
            "validation": {"documents": 147},
            "test": {"documents": 151},
        },
    ),
    _card(
        "semeval2016t12_doctimerel",
        "classification",
        "SemEval-2016 Task 12, DR with gold spans: is a marked event before, after or around the time of the note?",
        ("BEFORE", "OVERLAP", "AFTER", "BEFORE/OVERLAP"),
        ("accuracy", "macro_f1"),
        **_THYME_FIELDS,
        options={"corpus": "thyme", "attribute": "DocTimeRel", "mentions": ["EVENT"], "context": 1},
    ),
    *(
        _card(
            f"semeval2016t12_{name}",
            "classification",
            f"SemEval-2016 Task 12, {part} with gold spans: the {attribute} of a marked {mention}. With gold spans the "
            "official F1 is the accuracy.",
            values,
            ("accuracy", "macro_f1"),
            **_THYME_FIELDS,
            options={"corpus": "thyme", "attribute": attribute, "mentions": [mention], "context": 1},
        )
        for name, (part, mention, attribute, values) in _THYME_TASKS.items()
    ),
    _card(
        "semeval2016t12_contains",
        "relation",
        "SemEval-2016 Task 12, CR with gold spans: does one event or time contain another in the same sentence? Scored "
        "with temporal closure (cr_f1) and without (cr_exact_f1). Gold relations across sentences are lost and counted as "
        "missed; pathology notes have no relation annotation and no examples.",
        ("none", "CONTAINS"),
        ("cr_f1", "cr_exact_f1", "micro_f1", "micro_f1_candidates"),
        **_THYME_FIELDS,
        negative_label="none",
        official="thyme2016",
        options={
            "corpus": "thyme",
            "distance": 0,
            "relation_types": {
                "TLINK:CONTAINS": "CONTAINS",
                **{f"TLINK:{type}": None for type in ("BEFORE", "OVERLAP", "BEGINS-ON", "ENDS-ON")},
                **{f"ALINK:{type}": None for type in ("INITIATES", "CONTINUES", "REINITIATES", "TERMINATES")},
            },
        },
    ),
    _ADE,
    _card(
        "n2c2_2018_ade_relation",
        "relation",
        "n2c2 2018 Track 2, relations with gold mentions: which property, event or reason belongs to which drug, in the "
        "same or neighbouring sentences; gold relations farther apart are lost and counted as missed.",
        ("none", *(f"{type}-Drug" for type in _DRUG_RELATIONS)),
        ("lenient_f1", "strict_f1", "micro_f1", "micro_f1_candidates", "macro_f1"),
        **_ADE_FIELDS,
        official="ade2018",
        negative_label="none",
        options={
            "corpus": "n2c2_2018",
            "mention_text": "offsets",
            "distance": 1,
            "pairs": [[type, "Drug"] for type in _DRUG_RELATIONS],
        },
        best_published=Published(metric="lenient_f1", value=0.9630, system="best of the shared task", source=_HENRY),
    ),
    _CMED,
    _card(
        "n2c2_2022_cmed_event",
        "classification",
        "n2c2 2022 Track 1, Event with gold mentions: is a change of the marked medication discussed?",
        ("Disposition", "NoDisposition", "Undetermined"),
        ("accuracy", "macro_f1"),
        **_CMED_FIELDS,
        options={"corpus": "n2c2_2022", "context": 1},
    ),
    *(
        _card(
            f"n2c2_2022_cmed_{slot.lower()}",
            "classification",
            f"n2c2 2022 Track 1, Context with gold events: the {slot} of the marked medication's change.",
            values,
            ("accuracy", "macro_f1"),
            **_CMED_FIELDS,
            options={"corpus": "n2c2_2022", "attribute": slot, "mentions": ["Disposition"], "context": 1},
        )
        for slot, values in CMED_SLOTS.items()
    ),
    TaskCard(
        **_CMED.model_dump()
        | {
            "name": "semeval2021t6",
            "description": f"Alias of n2c2_2022_cmed (SemEval-2021 Task 6 is about memes). {_CMED.description}",
            "reader": "semeval2021t6",
        }
    ),
)

#: `options.variant` of the alias: the other corpus it may stand for.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "semeval2021t6": {
        "n2c2_2018_ade": _ADE.model_dump()
        | {
            "name": "semeval2021t6",
            "description": f"Alias of n2c2_2018_ade (SemEval-2021 Task 6 is about memes). {_ADE.description}",
            "reader": "semeval2021t6",
        }
    }
}
