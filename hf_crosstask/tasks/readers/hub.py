"""Generic reader of `datasets` datasets: a Hub id, a saved dataset, a local folder, or Parquet files; columns as
`columns.py` explains.

`path` is a folder where one of that name exists (written by `save_to_disk`, or holding data files that `load_dataset`
understands), else the id of a dataset on the Hub; or a map of split to Parquet file. Integers of `ClassLabel` columns
become their names.

Options: `config` (the dataset's configuration), `revision`, `splits` (our split to the source's, e.g.
{"validation": "validation_matched"}; without it the usual names are matched, and splits of other names are counted in
`dropped`), `label_map`, `scheme`. Datasets that need their own loading script do not load: scripts run foreign code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_crosstask.errors import DataFormatError
from hf_crosstask.tasks.readers.base import ReadResult, Source, parse_options, split_files, split_of
from hf_crosstask.tasks.readers.columns import ColumnOptions, RowError, check_columns, locate, row_example
from hf_crosstask.tasks.schema import SPLITS

if TYPE_CHECKING:
    from datasets import Dataset


class HubOptions(ColumnOptions):
    """Options of the reader; the module docstring explains them."""

    config: str | None = None
    revision: str | None = None
    splits: dict[str, str] | None = None


def read(source: Source) -> ReadResult:
    """Read the splits of a dataset.

    Raises:
        DataFormatError: the dataset does not load, has no train split, lacks a column, or a label is unknown or hidden.
    """
    options = parse_options(source, HubOptions)
    name = source.name if isinstance(source.path, Mapping) else str(source.card.path)
    loaded = _load(source, options, name)
    chosen, dropped = _choose_splits(loaded, options, name)
    splits = {}
    for split, origin in chosen.items():
        dataset = loaded[origin]
        columns = check_columns(source.card, dataset.column_names, f"{name} ({origin})")
        needed = {column if column in dataset.features else column.split(".")[0] for column in columns.values()}
        splits[split] = _examples(source, options, dataset.select_columns(sorted(needed)), columns, split, name)
    return ReadResult(splits, dropped=dropped)


def _load(source: Source, options: HubOptions, name: str) -> dict[str, Dataset]:
    """The splits of the dataset, by the source's own names."""
    import datasets
    from datasets.exceptions import DatasetsError

    path = source.path
    files = (
        {split: str(file) for split, file in split_files(source, ()).items()} if isinstance(path, Mapping) else None
    )
    try:
        if files is not None:
            loaded = datasets.load_dataset("parquet", data_files=files)
        elif isinstance(path, Path) and _is_saved(path):
            loaded = datasets.load_from_disk(str(path))
        elif isinstance(path, Path) and path.exists():
            loaded = datasets.load_dataset(str(path), options.config)
        else:
            loaded = datasets.load_dataset(name, options.config, revision=options.revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        remedy = "Check the id and the network, or give a local folder or Parquet files."
        if "scripts are no longer supported" in reason:
            remedy = "Convert it to Parquet, or use its original files with another reader."
        raise DataFormatError(name, f"the dataset does not load: {reason}", remedy=remedy) from None
    if isinstance(loaded, datasets.Dataset):
        return {"train": loaded}
    return dict(loaded)


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _choose_splits(
    loaded: Mapping[str, Dataset], options: HubOptions, name: str
) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Our split to the source's, and the counts of the splits left out."""
    there = f"the dataset has: {', '.join(loaded)}."
    chosen: dict[str, str] = {}
    if options.splits is not None:
        for split, origin in options.splits.items():
            if split not in SPLITS or origin not in loaded:
                raise DataFormatError(name, f"options.splits: no split {origin!r} for {split!r}; {there}")
            chosen[split] = origin
    else:
        for origin in loaded:
            split_name = split_of(origin)
            if split_name in chosen:
                remedy = "Choose in options.splits."
                raise DataFormatError(name, f"two splits for {split_name}; {there}", remedy=remedy)
            if split_name:
                chosen[split_name] = origin
    if "train" not in chosen:
        raise DataFormatError(name, f"no train split; {there}", remedy="Map it in options.splits.")
    left_out = {
        origin: {"examples of a split that is not used": len(dataset)}
        for origin, dataset in loaded.items()
        if origin not in chosen.values()
    }
    return {split: chosen[split] for split in SPLITS if split in chosen}, left_out


def _examples(
    source: Source, options: HubOptions, dataset: Dataset, columns: Mapping[str, str], split: str, name: str
) -> list[dict[str, Any]]:
    examples = []
    for index, row in enumerate(dataset):
        try:
            record = {column: _named(value, dataset.features[column]) for column, value in row.items()}
            examples.append(row_example(record, columns, source.card, options, f"{split}-{index + 1}"))
        except RowError as error:
            raise locate(error, f"{name} ({split})", row=index) from None
    return examples


def _named(value: Any, feature: Any) -> Any:
    """`value` with the integers of every `ClassLabel` inside it replaced by their names."""
    from datasets import ClassLabel

    if value is None:
        return None
    if isinstance(feature, ClassLabel):
        if value < 0:
            raise RowError("the label is hidden (-1); leave this split out with options.splits.")
        return feature.int2str(value)
    if isinstance(feature, Mapping):
        return {key: _named(value[key], inner) for key, inner in feature.items()}
    inner = getattr(feature, "feature", None)  # List, LargeList, Sequence
    if inner is not None and isinstance(value, list):
        return [_named(item, inner) for item in value]
    return value
