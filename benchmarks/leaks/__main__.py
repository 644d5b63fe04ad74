"""`python -m benchmarks.leaks [--quick] [--only NAME …] [--json]`: try every attack and honest model, and write RESULTS.md.

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
from dataclasses import dataclass, field
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
from benchmarks.leaks.score import Score
from benchmarks.leaks.throughput import seconds_for_100_mb
from benchmarks.machine import describe_machine
from benchmarks.scene import Scene, open_scene

REQUIREMENTS = (FOLDER / "requirements.txt").read_text()
_AT_A_TIME = 3

Task = Callable[[], Outcome | HonestOutcome]


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    # Ended by somebody else, it ends what it has started all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    results = report.Results(describe_machine())
    with open_scene(quick=given.quick) as scene:
        bench = Bench.on(scene, Choice(tuple(given.only), quick=given.quick))
        bench.run(results)
    if not given.quick and not given.only:
        report.write(results)
    if given.json:
        print(json.dumps(results.as_document(), indent=1, ensure_ascii=False))
    else:
        report.print_summary(results, time.monotonic() - begun)
    return 1 if results.misses else 0


class Progress:
    """One line for each thing done, on standard error."""

    def __init__(self) -> None:
        self.total = 0
        self._done = 0
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        with self._lock:
            self._done += 1
            print(f"[{self._done}/{self.total}] {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Choice:
    """Which of all cases to try."""

    names: tuple[str, ...] = ()
    quick: bool = False

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
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def on(cls, scene: Scene, choice: Choice) -> Bench:
        data = write_data(scene.fresh_folder("data"))
        environment = scene.environment(REQUIREMENTS)
        jobs = scene.fresh_folder("jobs")
        real = RealGate(scene.world(), jobs, REQUIREMENTS)
        real.open_site(data)
        folder = next(iter(data.values())).parent
        behind = OpenGate(scene.base, environment.tree, jobs / "code", folder, scene.fresh_folder("open"))
        return cls(scene, choice, Attempts(behind, real, truth()))

    def run(self, results: report.Results) -> None:
        cases = attacks()
        chosen, models = self.choice.of(cases), self.choice.of(honest_models())
        free = [(case, variant) for case, variant in chosen if case.kind == "weights"]
        self.progress.total = len(chosen) * 2 + len(free) + len(models)
        proofs = self._prove(chosen)
        # Outside of any envelope first: once there is one, it covers every later job.
        results.attacks += self._together([self._attack(*one, proofs, in_envelope=False) for one in free])
        self._approve([*cases, *honest_models()])
        results.attacks += self._together([self._attack(*one, proofs, in_envelope=True) for one in chosen])
        results.honest += self._together([self._honest(*one) for one in models])
        results.attacks.sort(key=lambda one: [case.path for case in cases].index(f"attacks.{one.kind}.{one.name}"))
        if not self.choice.names:
            index = self.attempts.real.world.site.datasets / "people" / "1" / "index"
            results.seconds_per_100_mb = seconds_for_100_mb(index, self.scene.fresh_folder("throughput"))

    def _prove(self, chosen: Sequence[tuple[Case, str]]) -> dict[tuple[str, str], Score]:
        def prove(one: tuple[Case, str]) -> Score:
            score = self.attempts.prove(*one)
            self.progress.say(f"open gate · {one[0].name}, {one[1]}: {score.canaries} canaries, {score.bytes} bytes")
            return score

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            scores = list(pool.map(prove, chosen))
        return {(case.path, variant): score for (case, variant), score in zip(chosen, scores, strict=True)}

    def _approve(self, cases: Sequence[Case]) -> None:
        """The steward's run envelope, drafted from a first job that leaves nothing behind."""
        first = next(case for case in cases if case.kind == "honest" and not case.outputs)
        self.attempts.real.approve(self.attempts.real.submit(first, first.variants[0]), cases)

    def _attack(self, case: Case, variant: str, proofs: dict[tuple[str, str], Score], *, in_envelope: bool) -> Task:
        proof = proofs[case.path, variant]
        return lambda: self.attempts.attack(case, variant, proof=proof, in_envelope=in_envelope)

    def _honest(self, case: Case, variant: str) -> Task:
        return lambda: try_honest(case, variant, open_gate=self.attempts.open, real=self.attempts.real)

    def _together(self, tasks: Sequence[Task]) -> list:
        def do(task: Task) -> Outcome | HonestOutcome:
            outcome = task()
            self.progress.say(report.one_line(outcome))
            return outcome

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return list(pool.map(do, tasks))


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
    parser.add_argument("--json", action="store_true", help="print the document instead of the summary")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
