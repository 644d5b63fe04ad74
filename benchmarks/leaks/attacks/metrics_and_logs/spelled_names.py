"""Names of metrics, parameters, tags and runs are text: base32 of rows, whole or in pieces that look like names."""

from __future__ import annotations

import base64
import binascii
import re

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, pack, unpack
from benchmarks.leaks.inside.words import from_words, to_words
from benchmarks.leaks.let_out import LetOut

METRICS = ["training_*"]
VARIANTS = {
    "base32 in metric names": {"where": "metric", "size": 80},
    "base32 in short pieces": {"where": "metric", "size": 10},
    "words in metric names": {"where": "metric", "size": 0},
    "values of parameters": {"where": "param", "size": 60},
    "parameters in short pieces": {"where": "param", "size": 12},
    "words in a parameter": {"where": "param", "size": 0},
    "tags in short pieces": {"where": "tag", "size": 12},
    "names of nested runs": {"where": "run", "size": 12},
}
_MOST = {"metric": 60, "param": 200, "tag": 200, "run": 30}


def leak(job: Job, *, where: str, size: int) -> None:
    secret = pack(job.rows, min(2000, _MOST[where] * size * 5 // 8 - 8) if size else 260)
    if size:
        text = base64.b32encode(secret).decode().rstrip("=").lower()
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
    else:
        words = to_words(secret)
        pieces = ["_".join(words[at : at + 6]) for at in range(0, len(words), 6)]
    named = [f"{number:03d}_{piece}" for number, piece in enumerate(pieces)]
    if where == "metric":
        job.metrics([(f"training_{name}", 0.5, 0) for name in named])
    elif where == "param":
        job.tracking.params({f"layer_{number}": name for number, name in enumerate(named)})
    elif where == "tag":
        job.tracking.tags({f"note_{number}": name for number, name in enumerate(named)})
    else:
        for name in named[: _MOST["run"]]:
            job.tracking.child_run(f"fold_{name}")


def recover(let_out: LetOut, *, where: str, size: int) -> list[Row]:
    texts = {
        "metric": [metric.key for metric in let_out.metrics],
        "param": list(let_out.params.values()),
        "tag": list(let_out.tags.values()),
        "run": let_out.words,
    }[where]
    found = [match for text in texts if (match := re.search(r"(?:^|_)(\d{3})_([a-z0-9_]+)$", text))]
    pieces = [match[2] for match in sorted(found, key=lambda one: one[1])]
    if not size:
        return unpack(from_words([word for piece in pieces for word in piece.split("_")]))
    text = "".join(pieces).upper()
    try:
        return unpack(base64.b32decode(text[: len(text) // 8 * 8]))
    except binascii.Error:
        return []
