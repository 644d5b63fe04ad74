"""`python -m benchmarks.leaks.inside.play MODULE VARIANT RUN`: the job's command, inside the sandbox.

MODULE is an attack or an honest model below `benchmarks.leaks`, VARIANT the number
of one of its variants, RUN the number of this run where an attack takes several.
With `accuracy` for a variant it prints how good the model in the outputs is.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from benchmarks.leaks.inside.channels import Job, LazyMlflow, WrittenDown


def main() -> None:
    module_name, variant, run = sys.argv[1], sys.argv[2], int(sys.argv[3])
    module = importlib.import_module(f"benchmarks.leaks.{module_name}")
    recorded = os.environ.get("OPEN_GATE")
    tracking = WrittenDown(Path(recorded)) if recorded else LazyMlflow()
    job = Job(Path(os.environ["INSITU_INPUT_TABLE"]), Path(os.environ["INSITU_OUTPUTS"]), tracking)
    more = {"run": run} if hasattr(module, "RUNS") else {}
    if variant == "accuracy":
        print(module.accuracy(job))
        return
    options = list(module.VARIANTS.values())[int(variant)]
    module.leak(job, **options, **more)


if __name__ == "__main__":
    main()
