"""`python -m benchmarks [NAME …] [--quick] [--json]`: measure, print, and write down.

A missed goal is a figure like any other and no failure; the exit code tells only
whether everything could be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence

from benchmarks.figures import Row
from benchmarks.machine import describe_machine
from benchmarks.report import print_table, write_results
from benchmarks.scene import Scene, open_scene

Measure = Callable[[Scene], Iterable[Row]]

# In this order: those that share a hub and a site stand together, and the most telling one first.
BENCHES = (
    "submit",
    "sandbox_start",
    "log_metric",
    "metrics_to_hub",
    "transfer",
    "direct",
    "staging",
    "environments",
    "idle_agents",
    "images",
    "serving",
    "smoke",
    "scan",
)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    # Ended by somebody else, it ends what it has started all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = describe_machine()
    measured: dict[str, list[Row]] = {}
    begun = time.monotonic()
    with open_scene(quick=given.quick) as scene:
        for name in given.names or BENCHES:
            measured[name] = _measure(name, scene)
            if not given.quick:  # that has too few samples to be kept
                write_results(machine, measured)
            if not given.json:
                print_table(name, measured[name])
    if given.json:
        benches = {name: [row.as_dict() for row in rows] for name, rows in measured.items()}
        print(json.dumps({"machine": machine, "benches": benches}, indent=1, ensure_ascii=False))
    else:
        _print_summary(measured, time.monotonic() - begun)
    return 1 if any(row.failed for rows in measured.values() for row in rows) else 0


def _measure(name: str, scene: Scene) -> list[Row]:
    """The rows of one bench; those it could measure, when it fails half way."""
    module = importlib.import_module(f"benchmarks.{name}")
    rows: list[Row] = []
    try:
        for row in module.measure(scene):
            rows.append(row)  # noqa: PERF402 - one by one, so that those before a failure stay
    except Exception as exc:  # noqa: BLE001 - one bench that can't be measured must not take the others with it
        traceback.print_exc(file=sys.stderr)
        rows.append(Row(name, "", (), failed=f"{type(exc).__name__}: {exc}".splitlines()[0][:120]))
    return rows


def _print_summary(measured: dict[str, list[Row]], took_s: float) -> None:
    judged = [row for rows in measured.values() for row in rows if row.met is not None]
    missed = [row.figure for row in judged if not row.met]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} goals met, in {took_s:.0f} s on {os.cpu_count()} cores.")
    for figure in missed:
        print(f"  missed: {figure}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, as ratios to references.")
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="few rounds, nothing written: to try a change")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
