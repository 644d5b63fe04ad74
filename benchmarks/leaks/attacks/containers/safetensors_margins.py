"""What a safetensors file holds beside weights: metadata, names, padding, order, shapes, integers.

The format: https://github.com/huggingface/safetensors (header: length, JSON, padding with spaces; then the data).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_bits, from_text, pack, row_bits, rows_of_bits, to_bits, unpack
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model"}
VARIANTS = {
    "__metadata__": {"how": "metadata"},
    "tensor names in base32": {"how": "names"},
    "tensor names like words": {"how": "short names"},
    "blanks after the header": {"how": "padding"},
    "bytes after the data": {"how": "tail"},
    "shapes of empty tensors": {"how": "shapes"},
    "order of tensors": {"how": "order"},
    "letters in a tensor of integers": {"how": "integers"},
    "keys of an unknown entry": {"how": "extra keys"},
}
_ROOM = 1500
_TENSORS = 200  # whose order can say some 1,200 bits
_ORDER_BITS = 1000


def leak(job: Job, *, how: str) -> None:
    weights = as_float32(networks.fresh((len(NUMBERS), 32, 1)))
    secret = pack(job.rows, _ROOM)
    text = "\n".join(",".join(row) for row in job.rows[:15])
    tensors: dict[str, np.ndarray] = dict(weights)
    header: dict[str, Any] = {}
    padding, tail = b"", b""
    if how == "metadata":
        header["__metadata__"] = {"format": "np", "notes": text}
    elif how in {"names", "short names"}:
        size = 60 if how == "names" else 8
        code = base64.b32encode(secret).decode().rstrip("=").lower()
        for number, at in enumerate(range(0, len(code), size)):
            tensors[f"block{number:03d}.{code[at : at + size]}"] = np.zeros(1, np.float32)
    elif how == "padding":
        padding = bytes(b" \n"[bit] for bit in to_bits(secret))
    elif how == "tail":
        tail = text.encode()
    elif how == "shapes":
        padded = secret.ljust(len(secret) + (-len(secret) % 6), b"\0")
        for number, at in enumerate(range(0, len(padded), 6)):
            shape = struct.unpack(">3H", padded[at : at + 6])
            tensors[f"empty{number:03d}"] = np.zeros((0, *shape), np.float32)
    elif how == "order":
        blocks = {f"block{number:03d}": np.full(1, number / 7, np.float32) for number in range(_TENSORS)}
        bits = row_bits(job.numbers(NUMBERS)[: _ORDER_BITS // (12 * len(NUMBERS))])
        order = _permutation(int("1" + "".join(map(str, bits)), 2), _TENSORS)
        tensors |= {f"block{number:03d}": blocks[f"block{number:03d}"] for number in order}
    elif how == "integers":
        tensors["steps"] = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    else:
        header["notes"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], "text": text}
    (job.output("model") / "model.safetensors").write_bytes(_file(tensors, header, padding, tail))


def recover(let_out: LetOut, *, how: str) -> list[Row]:
    data = let_out.only_file("model")
    header = networks.header_of(data)
    if not header:
        return []
    try:
        return _read(data, header, how)
    except (ValueError, KeyError, binascii.Error, struct.error):
        return []


def _read(data: bytes, header: dict[str, Any], how: str) -> list[Row]:
    end = 8 + struct.unpack("<Q", data[:8])[0]
    names = list(header)
    if how == "metadata":
        return from_text(header.get("__metadata__", {}).get("notes", ""))
    if how in {"names", "short names"}:
        code = "".join(name[9:] for name in sorted(names) if name.startswith("block")).upper()
        return unpack(base64.b32decode(code[: len(code) // 8 * 8]))
    if how == "padding":
        blanks = data[data.rindex(b"}", 0, end) + 1 : end]
        return unpack(from_bits([int(byte == 10) for byte in blanks]))
    if how == "tail":
        last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        return from_text(data[end + last :].decode(errors="replace"))
    if how == "shapes":
        shapes = [header[name]["shape"][1:] for name in sorted(names) if name.startswith("empty")]
        return unpack(b"".join(struct.pack(">3H", *shape) for shape in shapes))
    if how == "order":
        placed = sorted((header[name]["data_offsets"][0], name) for name in names if name.startswith("block"))
        number = _number([int(name[5:]) for _, name in placed])
        return rows_of_bits([int(bit) for bit in bin(number)[3:]])
    if how == "integers":
        codes = networks.load(data)["steps"]
        return from_text(bytes(int(code) % 256 for code in codes).decode(errors="replace"))
    return from_text(str(header.get("notes", {}).get("text", "")))


def _file(tensors: dict[str, np.ndarray], header: dict[str, Any], padding: bytes, tail: bytes) -> bytes:
    """Written by hand: the library would not."""
    entries, data = dict(header), b""
    for name, value in tensors.items():
        raw = value.tobytes()
        kind = {"float32": "F32", "int32": "I32"}[str(value.dtype)]
        entries[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(entries).encode() + padding
    return struct.pack("<Q", len(text)) + text + data + tail


# -- a permutation as a number, in the factorial base ------------------------------------------------------------------


def _permutation(number: int, size: int) -> list[int]:
    left, found = list(range(size)), []
    for base in range(size, 0, -1):
        number, at = divmod(number, base)
        found.append(left.pop(at))
    return found


def _number(order: list[int]) -> int:
    left, digits = sorted(order), []
    for item in order:
        at = left.index(item)
        digits.append((at, len(left)))
        left.pop(at)
    number = 0
    for at, base in reversed(digits):
        number = number * base + at
    return number
