"""Cards of the other tasks over the biomedical literature (BLURB's, and PubMed RCT)."""

from __future__ import annotations

from hf_crosstask.tasks.card import Published, TaskCard

_BLURB = "Gu et al. 2021 (BLURB), arXiv:2007.15779, Table 6"
HALLMARKS = (
    "Sustaining proliferative signaling",
    "Evading growth suppressors",
    "Resisting cell death",
    "Enabling replicative immortality",
    "Inducing angiogenesis",
    "Activating invasion and metastasis",
    "Genomic instability and mutation",
    "Tumor promoting inflammation",
    "Cellular energetics",
    "Avoiding immune destruction",
)

CARDS: tuple[TaskCard, ...] = (
    TaskCard(
        name="jnlpba",
        type="ner",
        level=1,
        description="JNLPBA 2004: five types of bio-entities in MEDLINE abstracts. Training from the standoff "
        "distribution is rebuilt (same entities, 18,544 of 18,546 sentences); say so in reports. Published scores of "
        "BLURB merge the five types (`entity_f1_merged`); those of BioBERT are of another task (three types, other "
        "tokens, validation sentences from training abstracts).",
        labels=("protein", "DNA", "RNA", "cell_line", "cell_type"),
        primary_metric="entity_f1",
        secondary_metrics=("entity_precision", "entity_recall", "entity_f1_merged"),
        segmentation="whitespace",
        reader="jnlpba",
        path="jnlpba",
        options={"validation": "devel"},
        published_counts={
            "train": {"entities": 46_750},
            "validation": {"documents": 200, "examples": 1_739, "entities": 4_551},
            "train+validation": {
                "documents": 2_000,
                "entities": 51_301,
                "protein": 30_269,
                "DNA": 9_533,
                "RNA": 951,
                "cell_line": 3_830,
                "cell_type": 6_718,
            },
            "test": {
                "documents": 404,
                "examples": 3_856,
                "entities": 8_662,
                "protein": 5_067,
                "DNA": 1_056,
                "RNA": 118,
                "cell_line": 500,
                "cell_type": 1_921,
            },
        },
        best_published=Published(metric="entity_f1_merged", value=0.7910, system="PubMedBERT", source=_BLURB),
        licence="GENIA project licence (BigBIO: CC BY 3.0)",
        provenance="pubmed",
        homepage="https://github.com/spyysalo/jnlpba",
        obtain="Copy original-data/test/Genia4EReval2.iob2 and conversion/MUID-PMID-map.txt of spyysalo/jnlpba, "
        "Genia4ERtask2.iob2 of the GENIA site (or a train.iob2 rebuilt from standoff/train), and data/JNLPBA/devel.tsv of "
        "cambridgeltl/MTL-Bioinformatics-2016 to <data_dir>/jnlpba.",
    ),
    TaskCard(
        name="ddi",
        type="relation",
        level=2,
        description="DDI-2013: which interaction a sentence states between two drugs, for every pair in it. BLURB "
        "scores micro-F1, BLUE macro-F1 over the four types.",
        labels=("false", "mechanism", "effect", "advise", "int"),
        negative_label="false",
        primary_metric="micro_f1",
        secondary_metrics=("micro_f1_candidates", "macro_f1"),
        reader="ddi",
        path="ddi",
        options={"validation_documents": 90},
        published_counts={
            "train+validation": {"documents": 714, "examples": 27_792, "relations": 4_021},
            "test": {
                "documents": 191,
                "examples": 5_716,
                "relations": 979,
                "mechanism": 302,
                "effect": 360,
                "advise": 221,
                "int": 96,
            },
        },
        best_published=Published(metric="micro_f1", value=0.8236, system="PubMedBERT", source=_BLURB),
        licence="CC BY-NC 4.0",
        provenance="pubmed, drugbank",
        homepage="https://github.com/isegura/DDICorpus",
        obtain="Copy DDICorpus-2013.zip of isegura/DDICorpus to <data_dir>/ddi (it need not be unpacked).",
    ),
    TaskCard(
        name="gad",
        type="classification",
        level=2,
        description="GAD: does the sentence state an association of @GENE$ with @DISEASE$? Labels are semi-automatic "
        "and noisy. The positive class is `1`.",
        labels=("0", "1"),
        positive_label="1",
        primary_metric="positive_f1",
        secondary_metrics=("accuracy", "macro_f1"),
        reader="gad",
        path="gad",
        options={"fold": 1, "validation": 535},
        published_counts={
            "train": {"examples": 4_261},
            "validation": {"examples": 535},
            "train+validation": {"examples": 4_796},
            "test": {"examples": 534},
            "train+validation+test": {"examples": 5_330, "1": 2_801, "0": 2_529},
        },
        best_published=Published(metric="positive_f1", value=0.8396, system="PubMedBERT", source=_BLURB),
        licence="CC BY 4.0 (BigBIO, for Bravo et al. 2015)",
        provenance="pubmed",
        homepage="https://github.com/BioMedBERT/biomedbert",
        obtain="Copy datasets/RE/GAD of BioMedBERT/biomedbert (the ten folds of BioBERT: <fold>/train.tsv, "
        "<fold>/test.tsv) to <data_dir>/gad, zipped or not.",
    ),
    TaskCard(
        name="hoc",
        type="multilabel",
        level=2,
        description="Hallmarks of Cancer: which of ten hallmarks a sentence shows. Scores are of abstracts (the union "
        "of their sentences); BLURB scores micro-F1, BLUE example-based F1 without the 272 abstracts that have none.",
        labels=HALLMARKS,
        primary_metric="document_micro_f1",
        secondary_metrics=("document_example_f1", "micro_f1"),
        segmentation="whitespace",
        reader="hoc",
        path="hoc",
        options={"splits": "splits_blurb.tsv"},
        published_counts={
            "train": {"documents": 1_295},
            "validation": {"documents": 186},
            "test": {"documents": 371},
            "train+validation+test": {"documents": 1_852, "examples": 17_464},
        },
        best_published=Published(metric="document_micro_f1", value=0.8232, system="PubMedBERT", source=_BLURB),
        licence="GPL-3.0",
        provenance="pubmed",
        homepage="https://github.com/sb895/Hallmarks-of-Cancer",
        obtain="Copy text and labels of sb895/Hallmarks-of-Cancer (or a zip archive of both) to <data_dir>/hoc, and "
        "beside them splits_blurb.tsv (PMID<tab>split of BLURB).",
    ),
    TaskCard(
        name="biosses",
        type="similarity",
        level=2,
        description="BIOSSES: similarity of two sentences, 0 to 4, the mean of five annotators. Twenty test pairs: an "
        "r of 0.92 has a 95 % interval of about 0.81 to 0.97.",
        score_range=(0.0, 4.0),
        primary_metric="pearson",
        secondary_metrics=("spearman",),
        reader="biosses",
        path="biosses",
        published_counts={
            "train": {"examples": 64},
            "validation": {"examples": 16},
            "test": {"examples": 20},
        },
        best_published=Published(metric="pearson", value=0.9230, system="PubMedBERT", source=_BLURB),
        licence="GPL-3.0",
        provenance="pubmed",
        homepage="https://github.com/gizemsogancioglu/biosses",
        obtain="Put biosses_pairs_scores.tsv (id, sentence1, sentence2, A to E, mean; from the Downloads of "
        "gizemsogancioglu/biosses) and splits_blurb.tsv (id, split, score of BLURB) into <data_dir>/biosses.",
    ),
    TaskCard(
        name="pubmed_rct",
        type="classification",
        level=2,
        description="PubMed 20k RCT: the role of a sentence in the abstract of a randomized controlled trial, from the "
        "sentence alone. Micro-F1 over all classes is accuracy.",
        labels=("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS"),
        primary_metric="micro_f1",
        secondary_metrics=("accuracy", "macro_f1"),
        reader="pubmed_rct",
        path="pubmed_rct",
        published_counts={
            "train": {"documents": 15_000, "examples": 180_040},
            "validation": {"documents": 2_500, "examples": 30_212},
            "test": {"documents": 2_500, "examples": 30_135},
        },
        best_published=Published(
            metric="weighted_f1",
            value=0.926,
            system="HSLN (sees the whole abstract)",
            source="Jin and Szolovits 2018, arXiv:1808.06161",
        ),
        licence="none stated; abstracts of PubMed",
        provenance="pubmed",
        homepage="https://github.com/Franck-Dernoncourt/pubmed-rct",
        obtain="Copy train.txt, dev.txt and test.txt of PubMed_20k_RCT (or another variant of "
        "Franck-Dernoncourt/pubmed-rct) to <data_dir>/pubmed_rct.",
    ),
)
