"""Where a run happened: versions, hardware, processes and the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from hf_crosstask._version import __version__
from hf_crosstask.evaluation.result import Environment

#: Distributions whose version can change a result.
STACK = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "seqeval",
    "huggingface-hub",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
)


def environment(*, processes: int = 1) -> Environment:
    """Describe this machine and this installation.

    Args:
        processes: how many processes trained together.
    """
    return Environment(
        versions=versions(), hardware=hardware(), processes=processes, git_commit=git_commit(Path(__file__).parent)
    )


def versions() -> dict[str, str]:
    """Versions of Python, this library and the installed part of the stack."""
    found = {"python": platform.python_version(), "hf_crosstask": __version__}
    for name in STACK:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed; its absence is the record
    return found


def hardware() -> str:
    """The accelerators (or, without one, the processor) in one line, with the memory in GiB."""
    import torch

    cores = f"{len(os.sched_getaffinity(0))} cores" if hasattr(os, "sched_getaffinity") else f"{os.cpu_count()} cores"
    processor = f"{_processor()}, {cores}"
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = [f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices]
        counted = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
        return f"{', '.join(counted)}, CUDA {torch.version.cuda}; {processor}"
    if torch.backends.mps.is_available():
        return f"Apple MPS; {processor}"
    return processor


def threads() -> int | None:
    """CPU threads of a run without accelerator: how its sums round depends on them. None where there is one."""
    import torch

    return None if torch.cuda.is_available() or torch.backends.mps.is_available() else torch.get_num_threads()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout that holds this library, `-dirty` appended where tracked files differ.

    None where the library is not run from its own checkout: a repository that merely has an environment with this
    library inside does not track its files.
    """
    try:
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", "environment.py"], cwd=folder, capture_output=True, check=False
        )
        if tracked.returncode != 0:
            return None
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # git is not installed
        return None
    return described.stdout.strip() or None
