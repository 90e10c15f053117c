"""JNLPBA 2004: five types of bio-entities in MEDLINE abstracts, from the original IOB2 files with abstract boundaries.

Files, wherever they lie below the folder (or in its zip archive; each may be gzipped):

- training: `Genia4ERtask2.iob2` of the distribution, or `train.iob2`, rebuilt from the standoff annotations (18,544
  sentences instead of 18,546; the entities are the same: say "rebuilt" in reports)
- test: `Genia4EReval2.iob2`; the files `…1.iob2` lack the abstract boundaries and are not read
- validation: `devel.tsv` of MTL-Bioinformatics-2016, 200 abstracts **of the training part**
- `MUID-PMID-map.txt`: abstracts are named by old MEDLINE ids; `split_group` is the PMID (`pmid:…`), and `muid:…`
  where the map lacks an id

`###MEDLINE:<id>` begins an abstract, a blank line ends a sentence, `token<tab>tag` is a token. `-DOCSTART-` lines of
`devel.tsv` are document marks, not sentences. An id that occurs twice (two in the test part, one in training) is kept
twice, its copy as `<id>-2`; ten test abstracts are in the training part, which the leakage audit reports.

Option `validation`: `devel` (default) takes `devel.tsv` and removes its abstracts from training (they are recognised
by their letters and digits, since tokenization differs); `documents` holds `validation_documents` (200) training
abstracts out instead, chosen by a hash of their id and `split_seed`; `none` keeps everything for training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import ReadResult, Source, TextOptions, integer, parse_options, pmid_group
from hf_crosstask.tasks.readers.files import FileTree, corpus_tree, one_file
from hf_crosstask.tasks.readers.holdout import choose_groups
from hf_crosstask.tasks.readers.iob import token_example
from hf_crosstask.tasks.readers.tags import TagError, entity_spans

_TRAIN = (r"(^|/)Genia4ERtask2\.iob2(\.gz)?$", r"(^|/)train\.iob2(\.gz)?$")
_TEST = r"(^|/)Genia4EReval2\.iob2(\.gz)?$"
_DEVEL = r"(^|/)devel\.tsv(\.gz)?$"
_MAP = r"(^|/)MUID-PMID-map\.txt(\.gz)?$"
_WANTED = re.compile("|".join([*_TRAIN, _TEST, _DEVEL, _MAP]), re.IGNORECASE)
_ABSTRACT = "###MEDLINE:"
_MARK = "-DOCSTART-"


class JnlpbaOptions(TextOptions):
    """Options of the reader; the module docstring explains them."""

    validation: Literal["devel", "documents", "none"] = "devel"
    validation_documents: int = Field(200, ge=1)
    split_seed: int = 0


@dataclass
class _Abstract:
    """An abstract: its MEDLINE id (empty if the file does not say) and sentences of (line, token, tag)."""

    name: str
    sentences: list[list[tuple[int, str, str]]] = field(default_factory=list)

    @property
    def letters(self) -> str:
        """The abstract without spaces and punctuation, the same for every tokenization."""
        text = "".join(token for sentence in self.sentences for _, token, _ in sentence)
        return "".join(filter(str.isalnum, text))


def read(source: Source) -> ReadResult:
    """Read the three splits.

    Raises:
        DataFormatError: a file is missing or breaks its format, a tag is illegal or unknown, a validation abstract is
            not in the training part.
    """
    options = parse_options(source, JnlpbaOptions)
    tree = corpus_tree(source, _WANTED.search, "file Genia4EReval2.iob2")
    train_file = _needed(tree, _TRAIN, "Genia4ERtask2.iob2 or train.iob2")
    test_file = _needed(tree, (_TEST,), "Genia4EReval2.iob2")
    map_file = _needed(tree, (_MAP,), "MUID-PMID-map.txt")
    pmids = _read_map(tree, map_file, options.encoding)
    dropped: dict[str, Counter[str]] = {"train": Counter(), "validation": Counter()}
    train = _abstracts(tree, train_file, options.encoding)
    names = {id(abstract): name for name, abstract in _unique(train)}
    held: dict[str, _Abstract] = {}
    files = {"train": train_file, "validation": train_file, "test": test_file}
    if options.validation == "devel":
        files["validation"] = _needed(tree, (_DEVEL,), "devel.tsv")
        held = _devel(tree, files["validation"], options.encoding, train, names, dropped["validation"])
    elif options.validation == "documents":
        sizes = Counter(abstract.name for abstract in train)
        chosen = choose_groups(sizes, options.validation_documents, options.split_seed, tree.root)
        held = {names[id(abstract)]: abstract for abstract in train if abstract.name in chosen}
    kept = []
    for abstract in train:
        if names[id(abstract)] in held:
            dropped["train"]["sentences of abstracts held out for validation"] += len(abstract.sentences)
        else:
            kept.append((names[id(abstract)], abstract))
    splits = {
        "train": kept,
        "validation": list(held.items()),
        "test": list(_unique(_abstracts(tree, test_file, options.encoding))),
    }
    return ReadResult(
        {
            split: list(_examples(source, tree.where(files[split]), abstracts, pmids, split))
            for split, abstracts in splits.items()
            if abstracts
        },
        dropped={split: dict(counts) for split, counts in dropped.items() if counts},
    )


def _needed(tree: FileTree, patterns: Iterable[str], what: str) -> str:
    for pattern in patterns:
        name = one_file(tree, pattern, what)
        if name is not None:
            return name
    remedy = "options.validation may be 'documents' or 'none' without it." if what == "devel.tsv" else None
    raise DataFormatError(tree.root, f"holds no file {what}.", remedy=remedy)


def _abstracts(tree: FileTree, name: str, encoding: str) -> list[_Abstract]:
    """The abstracts of a file, of `###MEDLINE:` or `-DOCSTART-` form."""
    where = tree.where(name)
    abstracts: list[_Abstract] = []
    sentence: list[tuple[int, str, str]] = []
    for number, line in tree.read_lines(name, encoding):
        mark = line.startswith((_ABSTRACT, _MARK))
        if mark:
            uid = line.removeprefix(_ABSTRACT).strip() if line.startswith(_ABSTRACT) else ""
            if line.startswith(_ABSTRACT) and integer(uid) is None:
                raise DataFormatError(where, f"{uid!r} is not a MEDLINE id.", line=number)
            abstracts.append(_Abstract(uid))
        if mark or not line.strip():
            sentence = []
            continue
        token, tab, tag = line.partition("\t")
        if not (token and tab and tag) or "\t" in tag:
            raise DataFormatError(where, f"expected `token<tab>tag`, found {line[:60]!r}.", line=number)
        if not abstracts:
            problem = f"expected `{_ABSTRACT}<id>` or `{_MARK}` before the first token."
            remedy = "The files ending in 1.iob2 have no abstract boundaries; use those ending in 2.iob2."
            raise DataFormatError(where, problem, line=number, remedy=remedy)
        if not sentence:
            abstracts[-1].sentences.append(sentence)
        sentence.append((number, token, tag))
    if not any(abstract.sentences for abstract in abstracts):
        raise DataFormatError(where, "holds no sentence.")
    return abstracts


def _unique(abstracts: Iterable[_Abstract]) -> Iterator[tuple[str, _Abstract]]:
    """Each abstract with a name of its own."""
    copies: Counter[str] = Counter()
    for abstract in abstracts:
        copies[abstract.name] += 1
        yield abstract.name + (f"-{copies[abstract.name]}" if copies[abstract.name] > 1 else ""), abstract


def _read_map(tree: FileTree, name: str, encoding: str) -> dict[str, str]:
    pmids = {}
    for number, line in tree.read_lines(name, encoding):
        muid, tab, pmid = line.partition("\t")
        if not tab or integer(muid) is None or integer(pmid) is None:
            problem = f"expected `MEDLINE id<tab>PMID`, found {line[:60]!r}."
            raise DataFormatError(tree.where(name), problem, line=number)
        pmids[muid] = pmid
    return pmids


def _devel(
    tree: FileTree,
    name: str,
    encoding: str,
    train: Iterable[_Abstract],
    names: Mapping[int, str],
    dropped: Counter[str],
) -> dict[str, _Abstract]:
    """The validation abstracts by the name that the same abstract has in the training part."""
    known = {abstract.letters: abstract for abstract in train}
    found: dict[str, _Abstract] = {}
    for abstract in _abstracts(tree, name, encoding):
        dropped[f"{_MARK} lines"] += 1
        original = known.get(abstract.letters)
        if original is None:
            begin = " ".join(token for _, token, _ in next(iter(abstract.sentences), []))[:60]
            problem = f"the abstract that begins {begin!r} is not in the training part."
            raise DataFormatError(tree.where(name), problem, remedy="Is it the devel.tsv of MTL-Bioinformatics-2016?")
        found[names[id(original)]] = _Abstract(original.name, abstract.sentences)
    return found


def _examples(
    source: Source,
    where: str,
    abstracts: Iterable[tuple[str, _Abstract]],
    pmids: Mapping[str, str],
    split: str,
) -> Iterator[dict[str, Any]]:
    for name, abstract in abstracts:
        pmid = pmids.get(abstract.name)
        group = f"muid:{abstract.name}" if pmid is None else pmid_group(pmid)
        for number, sentence in enumerate(abstract.sentences, start=1):
            try:
                spans = entity_spans([tag for _, _, tag in sentence], "IOB2", source.card.labels)
            except TagError as error:
                raise DataFormatError(where, error.problem, line=sentence[error.index][0]) from None
            tokens = [token for _, token, _ in sentence]
            yield token_example(f"{split}.{name}.s{number}", source.card.name, group, tokens, spans)
