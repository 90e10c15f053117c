"""Cards of the entity tasks (level 1)."""

from __future__ import annotations

from typing import Any

from hf_crosstask.tasks.card import Published, TaskCard

_BLURB = "Gu et al. 2021 (BLURB), arXiv:2007.15779, Table 6"

CARDS: tuple[TaskCard, ...] = (
    TaskCard(
        name="bc2gm",
        type="ner",
        level=1,
        description="BioCreative II gene mention: gene and protein names in MEDLINE sentences.",
        labels=("GENE",),
        primary_metric="entity_f1",
        secondary_metrics=("entity_precision", "entity_recall"),
        # Equal to white space on the IOB files (all 569,912 tokens are single matches), and right on the raw sentences.
        segmentation="regex",
        reader="bc2gm",
        path="bc2gm/mtl2016/BC2GM-IOB",
        options={"variant": "iob"},
        published_counts={
            "train": {"examples": 12_574, "entities": 15_197},
            "validation": {"examples": 2_519, "entities": 3_061},
            "test": {"examples": 5_038, "entities": 6_325},
        },
        best_published=Published(metric="entity_f1", value=0.8452, system="PubMedBERT", source=_BLURB),
        licence="CC BY 4.0 (MTL-Bioinformatics-2016); corpus: NLM public-domain notice",
        provenance="pubmed",
        homepage="https://github.com/cambridgeltl/MTL-Bioinformatics-2016",
        obtain="Copy data/BC2GM-IOB of cambridgeltl/MTL-Bioinformatics-2016 to <data_dir>/bc2gm/mtl2016/BC2GM-IOB.",
    ),
)

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "bc2gm": {
        "original": {
            "path": "bc2gm/original",
            "secondary_metrics": ("entity_precision", "entity_recall", "entity_f1_alternatives"),
            # The corpus has one training part; the reader holds 2,500 of its sentences out for validation.
            "published_counts": {
                "train": {"examples": 12_500},
                "validation": {"examples": 2_500},
                "train+validation": {"examples": 15_000, "entities": 18_265, "alternatives": 14_499},
                "test": {"examples": 5_000, "entities": 6_331, "alternatives": 5_068},
            },
            "best_published": None,  # BLURB's number is for the IOB split, scored without alternatives
            "licence": "NLM public-domain notice",
            "homepage": "https://github.com/spyysalo/bc2gm-corpus",
            "obtain": "Copy original-data of spyysalo/bc2gm-corpus to <data_dir>/bc2gm/original, and its devel-split "
            "to <data_dir>/bc2gm/devel-split.",
        }
    }
}
