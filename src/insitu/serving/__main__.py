"""`python -m insitu.serving`: read the command line, set the process up, then serve.

Exit codes: 0 after SIGTERM, 1 when the model can't be served (one JSON line on standard
error says why), 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from insitu.serving.errors import StartError
from insitu.serving.http_server import Limits


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    # One row doesn't repay a second thread of linear algebra, and a pool for every core
    # of a machine that this process has a part of costs more than it gives.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(args.math_threads))
    # Libraries' warnings are about training; one for each request would fill the log.
    warnings.simplefilter("ignore")
    # The loop and the scoring thread take turns; at the default 5 ms the loop would wait for its own.
    sys.setswitchinterval(0.001)
    try:
        # After the lines above: numpy reads them when it is imported.
        from insitu.serving.process import serve  # noqa: PLC0415

        return asyncio.run(serve(args))
    except ModuleNotFoundError as exc:
        return _refuse(StartError(f"The environment has no {exc.name}.", code="environment-differs"))
    except StartError as error:
        return _refuse(error)


def _refuse(error: StartError) -> int:
    sys.stderr.write(json.dumps({"error": error.as_dict()}) + "\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="insitu.serving", description="Serve one model over HTTP.")
    parser.add_argument("--model", type=Path, required=True, help="folder with an MLmodel file")
    parser.add_argument("--name", required=True, help="the model's name in /v2/models/NAME")
    parser.add_argument("--version", default="", help="the model's version")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="TCP port; 0 takes a free one")
    where.add_argument("--uds", type=Path, help="path of a unix socket to listen on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on with --port")
    parser.add_argument(
        "--trusted-type", action="append", default=[], help="a skops type to load beyond scikit-learn's; repeatable"
    )
    parser.add_argument("--batch-rows", type=int, default=64, help="most rows in one merged call; 1 merges none")
    parser.add_argument("--math-threads", type=int, default=1, help="threads of linear algebra")
    parser.add_argument("--max-body", type=int, default=Limits.body_bytes, help="bytes of one request's body")
    parser.add_argument("--answer-s", type=float, default=Limits.answer_s, help="seconds for one answer")
    parser.add_argument("--drain-s", type=float, default=10.0, help="seconds for open requests after SIGTERM")
    return parser


if __name__ == "__main__":
    sys.exit(main())
