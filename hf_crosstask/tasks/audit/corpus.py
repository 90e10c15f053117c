"""The splits under audit as flat arrays: which row belongs to which document and holds which texts.

**Documents.** `split_group` names the document, note or patient of an example. Two tasks can only be compared by it
where their ids mean the same thing, so the audit compares ids across tasks only if they declare their id space:

- `pmid:1606`: `<space>:<id>`, the same document wherever it occurs (`pmid`, `pmcid`, `doi`, `medline`, …). A space
  starts with a letter and is compared without case; leading zeros of a number do not count (`pmid:00001606`).
- any other id (`DDI-DrugBank.d1`) is known inside its own task only;
- an example that is its own group (`split_group` equals `id`) has no known document: ids are unique, so that nothing
  could ever be found.

A pair of splits without a common id space is therefore *not comparable* by document, and the report says so instead of
showing no overlap.

**Texts.** The fields `text` and `text_pair` of an example are its texts, each compared on its own: a leaked sentence of
a sentence pair is a leak. Choices and answers are not compared; many questions share theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from hf_crosstask.tasks.audit.hashing import Integers, Mask
from hf_crosstask.tasks.schema import SPLITS

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_FIELDS = ("text", "text_pair")
TRAIN = "train"

#: The id space of examples whose document is not known.
NO_SPACE = -1

#: What can overlap: documents as such, or texts.
Owner = Literal["documents", "texts"]

_DECLARED = re.compile(r"(?P<space>[A-Za-z][A-Za-z0-9_.\-]*):(?P<id>\S.*)")


class Splits(Protocol):
    """What the audit needs of a task: `hf_crosstask.tasks.load.TaskData` has it."""

    @property
    def splits(self) -> Mapping[str, Dataset]: ...


@dataclass(frozen=True)
class Split:
    """One split of one task.

    Attributes:
        ids: example id of each row.
        documents: index of each row's document, shape [rows].
        spaces: index of the id space of each row's document, `NO_SPACE` where it is not known, shape [rows].
        texts: index of each text of each row, shape [texts of the split].
        text_rows: the row of each of them, ascending.
    """

    task: str
    split: str
    ids: list[str]
    documents: Integers
    spaces: Integers
    texts: Integers
    text_rows: Integers

    @property
    def is_train(self) -> bool:
        return self.split == TRAIN

    @property
    def name(self) -> str:
        return f"{self.task}/{self.split}"

    def held_by(self, kind: Owner, row: int) -> Integers:
        """The document of a row, or its texts."""
        return self.documents[[row]] if kind == "documents" else self.texts[self.text_rows == row]

    def rows_with(self, kind: Owner, wanted: Mask) -> Integers:
        """The rows whose document, or any of whose texts, a mask over all documents (or texts) selects, ascending."""
        if kind == "documents":
            return np.flatnonzero(wanted[self.documents])
        rows = np.zeros(len(self.ids), np.bool_)
        rows[self.text_rows[wanted[self.texts]]] = True
        return np.flatnonzero(rows)


@dataclass(frozen=True)
class Corpus:
    """All splits of all tasks, and their distinct texts.

    Attributes:
        documents: how many there are.
        space_names: name of each id space; None for the ids that one task has to itself.
    """

    splits: tuple[Split, ...]
    texts: list[str]
    documents: int
    space_names: tuple[str | None, ...]

    @property
    def train(self) -> list[Split]:
        return [split for split in self.splits if split.is_train]

    @property
    def evaluation(self) -> list[Split]:
        return [split for split in self.splits if not split.is_train]

    def size(self, kind: Owner) -> int:
        """Number of distinct documents (or texts)."""
        return self.documents if kind == "documents" else len(self.texts)

    def has(self, kind: Owner, splits: Iterable[Split]) -> Mask:
        """Which documents (or texts) occur in any of the splits."""
        mask = np.zeros(self.size(kind), np.bool_)
        for split in splits:
            mask[split.documents if kind == "documents" else split.texts] = True
        return mask


def document_key(task: str, split_group: str) -> tuple[str | None, str, str]:
    """The identity of a document: (declared id space or None, task where undeclared, id).

    >>> document_key("bc2gm", "PMID:00001606")
    ('pmid', '', '1606')
    >>> document_key("ddi", "DDI-DrugBank.d1")
    (None, 'ddi', 'DDI-DrugBank.d1')
    """
    declared = _DECLARED.fullmatch(split_group.strip())
    if declared is None:
        return None, task, split_group
    id = declared["id"]
    return declared["space"].lower(), "", (id.lstrip("0") or "0") if id.isdecimal() else id


def gather(tasks: Mapping[str, Splits]) -> Corpus:
    """Read ids, documents and texts of every split once; equal texts are stored once."""
    texts: dict[str, int] = {}
    documents: dict[tuple[str | None, str, str], int] = {}
    spaces: dict[tuple[str | None, str], int] = {}
    splits = []
    for task, data in tasks.items():
        for split in SPLITS:
            if split in data.splits:
                splits.append(_gather_split(task, split, data.splits[split], texts, documents, spaces))
    return Corpus(tuple(splits), list(texts), len(documents), tuple(space for space, _ in spaces))


def _gather_split(
    task: str,
    split: str,
    dataset: Dataset,
    texts: dict[str, int],
    documents: dict[tuple[str | None, str, str], int],
    spaces: dict[tuple[str | None, str], int],
) -> Split:
    columns = dataset.select_columns(["id", "split_group", *TEXT_FIELDS]).with_format("arrow")[:]
    row_documents, row_spaces = [], []
    ids = columns.column("id").to_pylist()
    for id, group in zip(ids, columns.column("split_group").to_pylist(), strict=True):
        key = document_key(task, group)
        row_documents.append(documents.setdefault(key, len(documents)))
        row_spaces.append(NO_SPACE if group == id else spaces.setdefault(key[:2], len(spaces)))
    found: list[tuple[int, int]] = []
    for field in TEXT_FIELDS:
        for row, text in enumerate(columns.column(field).to_pylist()):
            if text:
                found.append((row, texts.setdefault(text, len(texts))))
    row_texts = np.array(sorted(found), np.int64).reshape(-1, 2)
    return Split(
        task=task,
        split=split,
        ids=ids,
        documents=np.array(row_documents, np.int64),
        spaces=np.array(row_spaces, np.int64),
        texts=row_texts[:, 1],
        text_rows=row_texts[:, 0],
    )
