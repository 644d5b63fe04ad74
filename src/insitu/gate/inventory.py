"""`python -m insitu.gate.inventory`: counts the arrays in a canonical copy, for a reviewer's eyes.

    stdin: a tar of plain files ──► read_any ──► stdout: {"arrays": [...], "unread": n, "ended": ""}

Each array is named by its place, type and shape and by a digest of its values, so that
two copies can be compared without keeping either. It reads what a job wrote, so the agent
starts it confined like the judge: no network, a user of its own, limits on memory and
time. The digests stay at the site.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO

import numpy as np

from insitu.gate.contents import Contents, FoundNumbers
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.readers.any import read_any

MAX_ARRAYS = 5_000
TIME_S = 20.0


@dataclass(frozen=True)
class Array:
    where: str
    type: str
    shape: tuple[int, ...]
    digest: str  # of type, shape and values


@dataclass(frozen=True)
class Inventory:
    arrays: tuple[Array, ...]
    unread: int = 0  # places that could not be read as what they claim to be
    ended: str = ""  # the bound at which counting ended; empty: everything was counted

    @property
    def numbers(self) -> int:
        return sum(int(np.prod(array.shape, dtype=np.int64)) for array in self.arrays)


def take_inventory(files: Mapping[str, bytes], effort: Effort) -> Inventory:
    """The arrays in these files, in the order in which they lie. Guesses at raw bytes are left out."""
    contents = Contents(effort)
    ended = ""
    try:
        for path, data in sorted(files.items()):
            read_any(data, path, contents)
    except OutOfEffortError as reason:
        ended = str(reason)
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        ended = f"reading failed: {type(error).__name__}"
    found = [numbers for numbers in contents.numbers if not numbers.raw]
    if len(found) > MAX_ARRAYS:
        ended = ended or f"holds more than {MAX_ARRAYS} arrays"
    return Inventory(tuple(_array(numbers) for numbers in found[:MAX_ARRAYS]), len(contents.unread), ended)


def _array(found: FoundNumbers) -> Array:
    values = np.ascontiguousarray(found.values)
    kind, shape = values.dtype.str, tuple(int(size) for size in values.shape)
    hasher = hashlib.sha256(f"{kind}{shape}".encode())
    hasher.update(values.tobytes())
    return Array(found.where, values.dtype.name, shape, hasher.hexdigest()[:32])


def inventory_json(inventory: Inventory) -> str:
    return json.dumps(asdict(inventory))


def parse_inventory(text: str) -> Inventory:
    """What the process answered.

    Raises:
        ValueError: it is no inventory.
    """
    try:
        document = json.loads(text)
        arrays = tuple(
            Array(str(one["where"]), str(one["type"]), tuple(int(size) for size in one["shape"]), str(one["digest"]))
            for one in document["arrays"]
        )
        return Inventory(arrays, int(document["unread"]), str(document["ended"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an inventory") from error


def main(stdin: IO[bytes] = sys.stdin.buffer) -> int:
    effort = Effort(Limits(time_s=TIME_S))
    files: dict[str, bytes] = {}
    ended = ""
    try:
        with tarfile.open(fileobj=stdin, mode="r|") as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is not None:
                    effort.spend_bytes(member.size)
                    files[member.name] = stream.read()
    except OutOfEffortError as reason:
        ended = str(reason)
    inventory = take_inventory(files, effort)
    whole = inventory if not ended else Inventory(inventory.arrays, inventory.unread, ended)
    sys.stdout.write(inventory_json(whole) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
