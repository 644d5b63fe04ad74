"""What can be told without a file: how a run ends, how long it takes, how many files it leaves, what they are called."""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import ROW_BITS, Bits, Row, row_bits, rows_of_bits
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"tables": "uri_folder"}
METRICS = ["auc"]
VARIANTS = {
    "exit codes": {"how": "exit"},
    "signals": {"how": "signal"},
    "durations": {"how": "time"},
    "numbers of files": {"how": "files"},
    "names of files": {"how": "names"},
    "sizes of files": {"how": "sizes"},
    "numbers of metrics that stay": {"how": "kept"},
    "success or failure": {"how": "failure"},
}
RUNS = dict.fromkeys(VARIANTS, 12) | {"success or failure": 24}
BOUNDED = {
    "success or failure": "whether a job succeeded can't be hidden from its owner: one bit a run",
    "names of files": "28 bits of a file's name, a run: the number of runs bounds them",
    "sizes of files": "10 bits of a table's length, a run: the number of runs bounds them",
}
_BITS = {"exit": 7, "signal": 3, "time": 2, "files": 7, "names": 28, "sizes": 10, "kept": 8, "failure": 1}
_TICK_S = 2.0
_NUMBER_BITS = 24  # of a patient's number
_SIGNALS = (1, 2, 3, 6, 10, 12, 14, 15)


def leak(job: Job, *, how: str, run: int) -> None:
    width = _BITS[how]
    secret = _secret(job, how)
    bits = np.resize(secret, (run + 1) * width)[run * width :]
    number = int("".join(map(str, bits)), 2)
    if how == "exit":
        sys.exit(number + 1)
    elif how == "signal":
        import os
        import signal

        signal.signal(_SIGNALS[number], signal.SIG_DFL)
        os.kill(os.getpid(), _SIGNALS[number])
    elif how == "time":
        time.sleep(number * _TICK_S)
    elif how == "failure":
        sys.exit(number)
    elif how == "kept":
        job.metrics([(f"own_{at}", 0.5, 0) for at in range(number + 1)])
    else:
        _write_files(job, how, number)


def recover(let_outs: list[LetOut], *, how: str) -> list[Row]:
    width = _BITS[how]
    pieces = [_heard(let_out, how) for let_out in let_outs]
    if how == "time":  # each run takes a while to start
        pieces = [
            min(3, round((let_out.seconds - min(one.seconds for one in let_outs)) / _TICK_S)) for let_out in let_outs
        ]
    bits = [piece >> at & 1 for piece in pieces for at in range(width - 1, -1, -1)]
    if width * len(let_outs) < ROW_BITS:
        number = int("".join(map(str, bits[:_NUMBER_BITS])), 2)
        return [{"patient": f"P-{number}"}]
    return rows_of_bits(bits[: len(bits) // ROW_BITS * ROW_BITS])


def _secret(job: Job, how: str) -> Bits:
    """The measurements of a canary, or just its number where there is little room."""
    if _BITS[how] * 12 >= ROW_BITS:
        return row_bits(job.numbers(NUMBERS)[1:2])
    number = int(job.rows[1][0].removeprefix("P-"))
    return np.array([number >> at & 1 for at in range(_NUMBER_BITS - 1, -1, -1)], np.uint8)


def _write_files(job: Job, how: str, number: int) -> None:
    folder = job.output("tables")
    if how == "names":
        (folder / f"part_{number:07x}.csv").write_text("a,b\n1,2\n")
    elif how == "sizes":
        (folder / "part.csv").write_text("a\n" + "1\n" * (number + 1))
    else:
        for at in range(number + 1):
            (folder / f"part_{at}.csv").write_text("a,b\n1,2\n")


def _heard(let_out: LetOut, how: str) -> int:
    files = let_out.files.get("tables", {})
    if how == "exit":
        return max(0, (let_out.exit_code or 0) - 1)
    if how == "signal":
        told = -(let_out.exit_code or 0)
        return _SIGNALS.index(told) if told in _SIGNALS else 0
    if how == "failure":
        return int(bool(let_out.exit_code))
    if how == "kept":
        return max(0, sum(let_out.kept.values()) - 1)
    if how == "files":
        return max(0, len(files) - 1)
    if how == "sizes":
        return max(0, len(let_out.only_file("tables").splitlines()) - 2) % 1024
    name = next(iter(files), "part_0.csv").removeprefix("part_").removesuffix(".csv")
    return int(name, 16) % 2**28 if all(letter in "0123456789abcdef" for letter in name) else 0
