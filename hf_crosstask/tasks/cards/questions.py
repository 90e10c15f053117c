"""Cards of the question answering, ranking and instruction tasks."""

from __future__ import annotations

from hf_crosstask.tasks.card import Published, TaskCard

_README = "README of the CQA-QL corpus, version 3.2"


def _cqa(
    subtask: str, name: str, description: str, train: int, validation: int, test: int, best: Published
) -> TaskCard:
    return TaskCard(
        name=name,
        type="ranking",
        level=2,
        description=f"SemEval-2016/2017 Task 3, subtask {subtask}: {description} The forum is Qatar Living: this is no "
        "medical corpus (options.categories keeps threads of some categories only).",
        labels=("false", "true"),
        primary_metric="map",
        secondary_metrics=("avg_rec", "mrr", "precision", "recall", "f1", "accuracy"),
        reader="cqa",
        path="semeval_cqa",
        options={"subtask": subtask, "year": 2016},
        # Of training, part 2 alone (part 1: 200 new questions more); of the test sets, that of 2016.
        published_counts={
            "train": {"examples": train},
            "validation": {"examples": validation},
            "test": {"examples": test},
        },
        best_published=best,
        licence="free for general research use",
        provenance="qatar living forum",
        homepage="https://alt.qcri.org/semeval2017/task3/",
        obtain="Put the XML files of SemEval-2016 Task 3 (train, dev, test input) and the gold *.relevancy files of its "
        "scorer below <data_dir>/semeval_cqa, gzipped or not; for options.year 2017 those of SemEval-2017 too.",
    )


_SEMEVAL_2017 = "Nakov et al. 2017, SemEval-2017 Task 3 (test set of 2017; that of 2016 is easier in B)"

CARDS: tuple[TaskCard, ...] = (
    _cqa(
        "A",
        "semeval2017t3",
        "rank the ten comments of a forum thread by how well they answer its question.",
        3_790,
        2_440,
        3_270,
        Published(
            metric="map",
            value=0.7919,
            system="Kelp",
            source="official score file of SemEval-2016 Task 3 (test set of 2016; best of 2017 on its own: 0.8843)",
        ),
    ),
    _cqa(
        "B",
        "semeval2017t3_b",
        "rank ten forum questions by their similarity to a new question.",
        670,
        500,
        700,
        Published(metric="map", value=0.4722, system="best of the shared task", source=_SEMEVAL_2017),
    ),
    _cqa(
        "C",
        "semeval2017t3_c",
        "rank the hundred comments of ten related threads by how well they answer a new question.",
        6_700,
        5_000,
        7_000,
        Published(metric="map", value=0.1546, system="best of the shared task", source=_SEMEVAL_2017),
    ),
    TaskCard(
        name="medqa",
        type="multiple_choice",
        level=2,
        description="MedQA: questions of the United States Medical Licensing Examination with five options "
        "(options.choices 4: the easier variant that most language models report).",
        primary_metric="accuracy",
        reader="medqa",
        path="medqa",
        options={"choices": 5},
        published_counts={
            "train": {"examples": 10_178},
            "validation": {"examples": 1_272},
            "test": {"examples": 1_273},
        },
        best_published=Published(
            metric="accuracy",
            value=0.911,
            system="Med-Gemini (four options)",
            source="Saab et al. 2024, arXiv:2404.18416",
        ),
        licence="MIT (repository)",
        provenance="examinations",
        homepage="https://github.com/jind11/MedQA",
        obtain="Download data_clean.zip linked from jind11/MedQA and copy questions/US to <data_dir>/medqa/US.",
    ),
    TaskCard(
        name="medmcqa",
        type="multiple_choice",
        level=2,
        description="MedMCQA: questions of Indian medical entrance examinations with four options. The test part has "
        "no published answers; options.dev_as 'test' makes the development part the test split, as papers do.",
        primary_metric="accuracy",
        reader="medmcqa",
        path="medmcqa",
        options={"cop": "one_based"},
        published_counts={
            "train": {"examples": 182_822},
            "validation": {"examples": 4_183},
            "test": {"examples": 6_150},
        },
        best_published=Published(
            metric="accuracy",
            value=0.723,
            system="Med-PaLM 2 (development part)",
            source="Qiu et al. 2024, Nature Communications, doi 10.1038/s41467-024-52417-z, Table 3",
        ),
        licence="MIT (repository)",
        provenance="examinations",
        homepage="https://github.com/medmcqa/medmcqa",
        obtain="Download the data linked from medmcqa/medmcqa: train.json, dev.json, test.json to <data_dir>/medmcqa.",
    ),
    TaskCard(
        name="medtext",
        type="generation",
        level=2,
        description="MedText: a patient's presentation, answered with diagnosis and treatment.",
        primary_metric="rouge_l",
        secondary_metrics=("rouge_1", "rouge_2", "bleu", "perplexity"),
        reader="medtext",
        path="medtext",
        licence="CC BY 4.0",
        provenance="textbook style, written for the data set",
        homepage="https://huggingface.co/datasets/BI55/MedText",
        obtain="Download the CSV file of the Hub dataset BI55/MedText to <data_dir>/medtext.",
    ),
    TaskCard(
        name="medical_qa",
        type="generation",
        level=2,
        description="lavita/medical-qa-datasets, `all-processed`: medical instructions and answers from many sources, "
        "MedQA, MedMCQA and PubMedQA among them: audit before it is trained beside those.",
        primary_metric="rouge_l",
        secondary_metrics=("rouge_1", "rouge_2", "bleu", "perplexity"),
        reader="medical_qa",
        path="lavita_medical_qa",
        licence="that of each source",
        provenance="mixed",
        homepage="https://huggingface.co/datasets/lavita/medical-qa-datasets",
        obtain="Save the configuration all-processed of the Hub dataset as JSON Lines to "
        "<data_dir>/lavita_medical_qa/all-processed.jsonl.",
    ),
)
