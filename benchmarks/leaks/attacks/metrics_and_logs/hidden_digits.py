"""A thousand values of a metric that look alike; digits, exponents, steps and times that nobody reads spell rows."""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, pack, unpack
from benchmarks.leaks.let_out import LetOut, Metric

METRICS = ["loss", "auc", "accuracy", "training_*"]
VARIANTS = {
    "six digits behind the sixth": {"where": "digits"},
    "a float's last 24 bits": {"where": "bits"},
    "exponents of tiny values": {"where": "exponent"},
    "steps": {"where": "step"},
    "times of values": {"where": "time"},
    "the four digits that leave": {"where": "visible"},
    "which of two names comes next": {"where": "order"},
}
BOUNDED = {
    "the four digits that leave": "digits that the policy lets out can say anything",
    "which of two names comes next": "the order of released values is theirs to choose",
}
_VALUES = 1000
_PER_VALUE = {"digits": 2, "bits": 3, "exponent": 1, "step": 2, "time": 2, "visible": 1, "order": 0}


def leak(job: Job, *, where: str) -> None:
    if where == "order":
        bits = np.unpackbits(np.frombuffer(pack(job.rows, 360), np.uint8))
        job.metrics([("auc" if bit else "loss", 0.5, step) for step, bit in enumerate(bits)])
        return
    width = _PER_VALUE[where]
    secret = pack(job.rows, _VALUES * width).ljust(_VALUES * width, b"\0")
    pieces = [int.from_bytes(secret[at : at + width], "big") for at in range(0, len(secret), width)]
    if where == "time":
        job.metrics_at([("loss", 0.5, step, 1_700_000_000_000 + piece) for step, piece in enumerate(pieces)])
    else:
        job.metrics([_value(where, number, piece) for number, piece in enumerate(pieces)])


def recover(let_out: LetOut, *, where: str) -> list[Row]:
    values = [metric for metric in let_out.metrics if metric.key in {"loss", "auc"}]
    if where == "order":
        bits = [metric.key == "auc" for metric in sorted(values, key=lambda one: one.step)]
        return unpack(np.packbits(np.array(bits, np.uint8)).tobytes())
    ordered = values if where == "step" else sorted(values, key=lambda one: one.step)
    width = _PER_VALUE[where]
    return unpack(b"".join((_piece(where, one) % 256**width).to_bytes(width, "big") for one in ordered))


def _value(where: str, number: int, piece: int) -> tuple[str, float, int]:
    base = 0.5 + 0.4 / (1 + number)
    if where == "digits":
        return "loss", round(base, 6) + piece * 1e-12, number
    if where == "bits":
        word = (np.float64(base).view(np.uint64) & ~np.uint64(0xFFFFFF)) | np.uint64(piece)
        return "loss", float(np.uint64(word).view(np.float64)), number
    if where == "exponent":
        return "loss", 5.0 * 10.0 ** -(piece + 3), number
    if where == "visible":
        return "loss", (1000 + piece * 10) / 10_000, number
    return "loss", base, piece * 100 + number % 100  # steps that all differ


def _piece(where: str, metric: Metric) -> int:
    value = metric.value
    if where == "digits":
        return round((value - round(value, 6)) * 1e12) if abs(value - round(value, 6)) < 1e-6 else 0
    if where == "bits":
        return int(np.float64(value).view(np.uint64)) & 0xFFFFFF
    if where == "exponent":
        return round(-np.log10(value / 5.0)) - 3 if value > 0 else 0
    if where == "visible":
        return round((value * 10_000 - 1000) / 10)
    if where == "time":
        return metric.timestamp_ms - 1_700_000_000_000
    return metric.step // 100
