"""Cards of the tasks that classify a text or a pair of texts (level 2)."""

from __future__ import annotations

from hf_crosstask.tasks.card import Published, TaskCard

CARDS: tuple[TaskCard, ...] = (
    TaskCard(
        name="pubmedqa",
        type="classification",
        level=2,
        description="PubMedQA, labelled part: a research question answered yes, no or maybe from its abstract.",
        labels=("yes", "no", "maybe"),
        primary_metric="accuracy",
        secondary_metrics=("macro_f1",),
        segmentation="regex",
        reader="pubmedqa",
        path="pubmedqa",
        options={"fold": 0},
        published_counts={
            "train": {"examples": 450},
            "validation": {"examples": 50},
            "train+validation": {"examples": 500, "yes": 276, "no": 169, "maybe": 55},
            "test": {"examples": 500, "yes": 276, "no": 169, "maybe": 55},
        },
        best_published=Published(
            metric="accuracy",
            value=0.722,
            system="BioLinkBERT-large",
            source="README of michiyasunaga/LinkBERT; BLURB's own best base model: PubMedBERT 0.5584, near the majority",
        ),
        licence="MIT",
        provenance="pubmed",
        homepage="https://pubmedqa.github.io",
        obtain="Copy data/ori_pqal.json and data/test_ground_truth.json of pubmedqa/pubmedqa to <data_dir>/pubmedqa, "
        "and what its preprocess/split_dataset.py pqal writes.",
    ),
)
