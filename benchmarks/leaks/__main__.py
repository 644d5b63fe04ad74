"""`python -m benchmarks.leaks [--quick] [--inside] [--only NAME …] [--json]`: try every attack and honest model, and write RESULTS.md.

The exit code is 0 when everything is as it has to be: 1 when an attack passes that
must not, when one proves nothing, or when an honest model is kept back.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits

from benchmarks.leaks import people, report
from benchmarks.leaks.attempts import Attempts, truth
from benchmarks.leaks.cases import FOLDER, Case, attacks, honest_models
from benchmarks.leaks.honesty import HonestOutcome, try_honest
from benchmarks.leaks.open_gate import OpenGate
from benchmarks.leaks.outcome import Outcome
from benchmarks.leaks.real_gate import RealGate
from benchmarks.leaks.throughput import seconds_for_100_mb
from benchmarks.machine import describe_machine
from benchmarks.scene import Scene, open_scene

REQUIREMENTS = (FOLDER / "requirements.txt").read_text()
Found = Sequence[Outcome | HonestOutcome]
Task = Callable[[], Found]
# Two jobs run at once; the third worker keeps both cores busy while the others wait for the hub.
_AT_A_TIME = 3
_FIRST = ("capacity", "convolutional", "durations")  # what takes longest starts first


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    # Ended by somebody else, it ends what it has started all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress = Progress()
    results = report.Results(describe_machine())
    with open_scene(quick=given.quick) as scene:
        progress.say("the hub and the site start")
        bench = Bench.on(scene, Choice(tuple(given.only), quick=given.quick, outside=not given.inside), progress)
        bench.run(results)
    results.finish(progress.seconds)
    if not (given.quick or given.only or given.inside):
        report.write(results)
    if given.json:
        print(json.dumps(results.as_document(), indent=1, ensure_ascii=False))
    else:
        report.print_summary(results)
    return 1 if results.misses else 0


class Progress:
    """One line for each thing done, on standard error."""

    def __init__(self) -> None:
        self.total = 0
        self._done = 0
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def say(self, line: str) -> None:
        print(f"{self.seconds:5.0f} s  {line}", file=sys.stderr, flush=True)

    def done(self, lines: Sequence[str]) -> None:
        with self._lock:
            self._done += 1
            for line in lines:
                self.say(f"[{self._done}/{self.total}] {line}")


@dataclass(frozen=True)
class Choice:
    """Which of all cases to try."""

    names: tuple[str, ...] = ()
    quick: bool = False
    outside: bool = True

    def of(self, cases: Sequence[Case]) -> list[tuple[Case, str]]:
        """Each variant of each case; of `--quick` the first, and none that takes many runs."""
        return [
            (case, variant)
            for case in cases
            for variant in (case.variants[:1] if self.quick else case.variants)
            if self._is_meant(case) and not (self.quick and case.runs(variant) > 1 and not self.names)
        ]

    def _is_meant(self, case: Case) -> bool:
        return not self.names or any(name in case.path for name in self.names)


@dataclass
class Bench:
    """A world, and the two gates in it."""

    scene: Scene
    choice: Choice
    attempts: Attempts
    progress: Progress

    @classmethod
    def on(cls, scene: Scene, choice: Choice, progress: Progress) -> Bench:
        data = write_data(scene.fresh_folder("data"))
        environment = scene.environment(REQUIREMENTS)
        jobs = scene.fresh_folder("jobs")
        real = RealGate(scene.world(), jobs, REQUIREMENTS)
        real.open_site(data)
        folder = next(iter(data.values())).parent
        behind = OpenGate(scene.base, environment.tree, jobs / "code", folder, scene.fresh_folder("open"))
        return cls(scene, choice, Attempts(behind, real, truth(), choice.outside), progress)

    def run(self, results: report.Results) -> None:
        cases, models = attacks(), honest_models()
        self.progress.say("a first job runs, and its code is approved")
        self._approve([*cases, *models])
        tasks = [self._task(*one) for one in self._in_order([*self.choice.of(cases), *self.choice.of(models)])]
        self.progress.total = len(tasks)
        for found in self._together(tasks):
            results.add(found)
        results.sort([case.path for case in [*cases, *models]])
        if not self.choice.names:
            self.progress.say("100 MB are judged")
            index = self.attempts.real.world.site.datasets / "people" / "1" / "index"
            results.seconds_per_100_mb = seconds_for_100_mb(index, self.scene.fresh_folder("throughput"))

    def _approve(self, cases: Sequence[Case]) -> None:
        """The steward's run envelope, drafted from a first job that leaves nothing behind."""
        first = next(case for case in cases if case.kind == "honest" and not case.outputs)
        self.attempts.real.approve(self.attempts.real.submit(first, first.variants[0]), cases)

    def _in_order(self, chosen: Sequence[tuple[Case, str]]) -> list[tuple[Case, str]]:
        """The longest first, so that no core waits for the last one."""
        return sorted(
            chosen,
            key=lambda one: not (one[0].runs(one[1]) > 1 or any(name in one[0].title + one[1] for name in _FIRST)),
        )

    def _task(self, case: Case, variant: str) -> Task:
        if case.kind == "honest":
            return lambda: [try_honest(case, variant, open_gate=self.attempts.open, real=self.attempts.real)]
        return lambda: self.attempts.attack(case, variant)

    def _together(self, tasks: Sequence[Task]) -> list[Found]:
        def do(task: Task) -> Found:
            found = task()
            self.progress.done([report.one_line(one) for one in found])
            return found

        pool = ThreadPoolExecutor(_AT_A_TIME)
        try:
            return list(pool.map(do, tasks))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def write_data(folder: Path) -> dict[str, Path]:
    """The two datasets, a folder of CSV each."""
    pictures: Any = load_digits()
    header = [f"p{number}" for number in range(64)] + ["digit"]
    rows = [[*map(int, pixels), int(digit)] for pixels, digit in zip(pictures.data, pictures.target, strict=True)]
    for name in ("people", "digits"):
        (folder / name).mkdir()
    (folder / "people" / "people.csv").write_text(people.as_csv())
    with (folder / "digits" / "digits.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return {name: folder / name for name in ("people", "digits")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaks", description="Try to leak, in every way we know."
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="attacks and models whose path has this"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the design's own variants, one run each; nothing is written"
    )
    parser.add_argument("--inside", action="store_true", help="only inside a run envelope; nothing is written")
    parser.add_argument("--json", action="store_true", help="print the document instead of the summary")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
