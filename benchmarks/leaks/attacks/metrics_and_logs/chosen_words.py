"""Each line says the same in one of two ways: a bit a line, and every line reads well."""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_bits, pack, row_bits, rows_of_bits, to_bits, unpack
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

METRICS = ["auc"]
VARIANTS = {
    "synonyms, a bit a line": {"how": "synonyms"},
    "sixteen phrases, four bits a line": {"how": "phrases"},
    "synonyms, three measured rows in 300 lines": {"how": "short"},
    "length of a bar": {"how": "bar"},
    "last digit of a loss": {"how": "digit"},
}
BOUNDED = {
    "synonyms, three measured rows in 300 lines": "a choice between two plain lines is a bit: release.logs.ceiling bounds them"
}
_PHRASES = [
    f"{verb} {what}"
    for verb in ("finished", "completed", "ended", "closed")
    for what in ("this epoch", "the epoch", "one epoch", "an epoch")
]


def leak(job: Job, *, how: str) -> None:
    if how == "short":
        secret = row_bits(job.numbers(NUMBERS)[:3])
    else:
        secret = to_bits(pack(job.rows, 400))
    for number, line in enumerate(_lines(how, secret)):
        print(f"epoch {number}: {line}")


def recover(let_out: LetOut, *, how: str) -> list[Row]:
    said = [line.partition(": ")[2] for line in let_out.lines if line.startswith("epoch ")]
    bits: list[int] = []
    for text in said:
        if how in {"synonyms", "short"} and text in {"finished", "completed"}:
            bits.append(int(text == "completed"))
        elif how == "phrases" and text in _PHRASES:
            bits += [_PHRASES.index(text) >> at & 1 for at in (3, 2, 1, 0)]
        elif how == "bar" and text.startswith("["):
            bits += [(text.count("=") - 1) >> at & 1 for at in (3, 2, 1, 0)]
        elif how == "digit" and text.startswith("loss ") and text[-1].isdecimal():
            bits += [int(text[-1]) >> at & 1 for at in (2, 1, 0)]
    array = np.array(bits, np.uint8)
    return rows_of_bits(array) if how == "short" else unpack(from_bits(array))


def _lines(how: str, bits: np.ndarray) -> list[str]:
    if how in {"synonyms", "short"}:
        return ["completed" if bit else "finished" for bit in bits]
    if how == "phrases":
        return [_PHRASES[_number(bits[at : at + 4])] for at in range(0, len(bits), 4)]
    if how == "bar":
        return [f"[{'=' * (_number(bits[at : at + 4]) + 1):16s}]" for at in range(0, len(bits), 4)]
    padded = np.pad(bits, (0, -len(bits) % 3))
    return [f"loss 0.31{_number(padded[at : at + 3])}" for at in range(0, len(padded), 3)]


def _number(bits: np.ndarray) -> int:
    return int("".join(map(str, bits)), 2)
