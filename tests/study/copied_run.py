"""Stands where a study's launcher stands: `… -m hf_crosstask.cli train RECIPE --resume` copies a run made before.

The folder FINISHED_RUNS has a run of each name; a run that is not there fails.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

recipe = json.loads(Path(sys.argv[4]).read_text())
made = Path(os.environ["FINISHED_RUNS"]) / recipe["name"]
print("started", flush=True)
if not made.is_dir():
    sys.exit("error: there is no such run")
shutil.copytree(made, recipe["output_dir"])
