"""Cards of the relation tasks (level 2)."""

from __future__ import annotations

from hf_crosstask.tasks.card import Published, TaskCard

CARDS: tuple[TaskCard, ...] = (
    TaskCard(
        name="chemprot",
        type="relation",
        level=2,
        description="BioCreative VI ChemProt: which relation a sentence states between a chemical and a gene.",
        labels=("false", "CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"),
        negative_label="false",
        primary_metric="micro_f1",
        secondary_metrics=("micro_f1_candidates", "macro_f1"),
        segmentation="regex",
        reader="chemprot",
        path="chemprot",
        # `blurb_examples`: candidate pairs in BLURB's sentences; they depend on the sentence splitter.
        published_counts={
            "train": {
                "documents": 1_020,
                "entities": 25_752,
                "relations": 4_157,
                "CPR:3": 768,
                "CPR:4": 2_254,
                "CPR:5": 173,
                "CPR:6": 235,
                "CPR:9": 727,
                "blurb_examples": 18_035,
            },
            "validation": {
                "documents": 612,
                "entities": 15_567,
                "relations": 2_416,
                "CPR:3": 550,
                "CPR:4": 1_094,
                "CPR:5": 116,
                "CPR:6": 199,
                "CPR:9": 457,
                "blurb_examples": 11_268,
            },
            "test": {
                "documents": 800,
                "entities": 20_828,
                "relations": 3_458,
                "CPR:3": 665,
                "CPR:4": 1_661,
                "CPR:5": 195,
                "CPR:6": 293,
                "CPR:9": 644,
                "blurb_examples": 15_745,
            },
        },
        best_published=Published(
            metric="micro_f1",
            value=0.7724,
            system="PubMedBERT",
            source="Gu et al. 2021 (BLURB), arXiv:2007.15779, Table 6",
        ),
        licence="distributed by BioCreative VI without a licence file; BigBIO lists it under the public domain mark",
        provenance="pubmed",
        homepage="https://biocreative.bioinformatics.udel.edu/news/corpora/chemprot-corpus-biocreative-vi/",
        obtain="Download ChemProt_Corpus.zip from BioCreative VI and unpack its parts to <data_dir>/chemprot: "
        "chemprot_training, chemprot_development, chemprot_test_gs.",
    ),
)
