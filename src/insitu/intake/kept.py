"""What stays at the site: counted by class for the hub, in full for the steward.

A class is a word of ours. File endings come from a list, since an ending that
the script chose would leave in the name of a class; counts above twenty are
rounded to two digits, since an exact count of anything is a number that the
script chose.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

_ENDINGS = frozenset(
    (
        "html htm png jpg jpeg svg webp gif pdf txt log md csv tsv json jsonl yaml yml xml parquet npy npz "
        "pkl pickle joblib pt pth ckpt onnx skops safetensors h5 keras zip gz tar bin py ipynb"
    ).split()
)


def artifact_class(name: str) -> str:
    """The class of an artifact by its name: `artifact .html`, or `artifact` for an ending that isn't usual."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    return f"artifact .{ending}" if ending in _ENDINGS else "artifact"


def rounded(count: int) -> int:
    """`count`, with two digits that mean something above twenty."""
    if count <= 20:
        return count
    unit: int = 10 ** (len(str(count)) - 2)
    return max(1, round(count / unit) * unit)


class Kept:
    """Counts by class, and details in a file up to a size; beyond it, counts alone."""

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self._file = path.open("xb")
        self._room_bytes = most_bytes
        self.counts: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()  # for the site alone: how often each rule kept something

    def keep(self, kind: str, *, rule: str, **details: Any) -> None:
        """Count one thing of class `kind`, and note its details for the steward."""
        self.count(kind, rule=rule)
        if self._room_bytes <= 0:
            return
        line = json.dumps({"kind": kind, "rule": rule, **details}).encode() + b"\n"
        self._room_bytes -= len(line)
        if self._room_bytes > 0:
            self._file.write(line)

    def count(self, kind: str, number: int = 1, *, rule: str = "not-declared") -> None:
        """Count, where the details are files already."""
        self.counts[kind] += number
        self.rules[f"{kind}: {rule}"] += number

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
