"""The verb `train` of `hf-crosstask`, for `accelerate launch`: RECIPE [key=value …] [--dry-run] [--resume] …"""

from __future__ import annotations

import sys

try:
    from hf_crosstask.cli import run_verb
except ModuleNotFoundError as error:
    if error.name != "hf_crosstask":
        raise
    sys.exit("error: hf_crosstask is not installed in this Python; run `pip install -e .` in its checkout first")

if __name__ == "__main__":
    sys.exit(run_verb("train", sys.argv[1:], program="launch/train.py"))
