"""A small table of people, its index, and the gate's real chain from bytes to rows: read, then scan."""

from __future__ import annotations

import csv
import io
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from insitu.gate.contents import Contents
from insitu.gate.effort import Effort, Limits
from insitu.gate.known.data import KnownData, build_index
from insitu.gate.readers.any import read_any
from insitu.gate.rows.in_text import LineScan, pieces
from insitu.gate.rows.scan import RowScan

ROWS = 400
HEADER = ["name", "code", "town", "born", "height", "weight", "pulse", "dose", "score"]
_FIRST = "Ada Bela Cleo Dora Emil Finn Gita Hugo Ines Juri Kaja Lars Mona Nils Olga Petr Rosa Sven Tove Uwe".split()
_LAST = "Abel Brandt Conti Dahl Eriksen Fuchs Grimm Holt Ivers Jansen Kranz Lund Moser Novak Oster Pohl".split()
_TOWNS = "Aarau Bergen Celle Delft Esbjerg Fulda Ghent Horsens Ilmenau Jena Kiel Lugano Minden Namur".split()


@cache
def people() -> list[list[str]]:
    """Rows as text, as a CSV file has them."""
    chance = random.Random(7)
    return [
        [
            f"{chance.choice(_FIRST)} {chance.choice(_LAST)}",
            f"P{chance.randrange(10**6, 10**7)}",
            chance.choice(_TOWNS),
            f"19{chance.randrange(40, 99)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
            f"{chance.gauss(171, 9):.2f}",
            f"{chance.gauss(74, 11):.2f}",
            f"{chance.gauss(70, 8):.3f}",
            f"{chance.lognormvariate(0, 1):.4f}",
            f"{chance.gauss(0, 1):.6f}",
        ]
        for _ in range(ROWS)
    ]


def people_csv(start: int = 0, stop: int = 40) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(people()[start:stop])
    return out.getvalue().encode()


def people_numbers(start: int = 0, stop: int = 40) -> np.ndarray:
    return np.array([[float(cell) for cell in row[4:]] for row in people()[start:stop]])


def index_people(folder: Path) -> KnownData:
    source = folder / "people.csv"
    source.write_text(",".join(HEADER) + "\n" + people_csv(0, ROWS).decode())
    (folder / "index").mkdir()
    build_index([source], "csv", folder / "index", b"key of the canaries")
    return KnownData.open(folder / "index")


def contents_of(data: bytes, **limits: Any) -> Contents:
    contents = Contents(Effort(Limits(**limits)))
    read_any(data, "file", contents)
    return contents


def rows_found(data: bytes, known: KnownData, **limits: Any) -> int:
    """How many rows of the table the scan finds in `data`: in numbers, or in text."""
    contents = contents_of(data, **limits)
    return max(rows_in_numbers(contents, known), rows_in_texts(contents, known))


def rows_in_numbers(contents: Contents, known: KnownData) -> int:
    return RowScan(known.table, cells=known.cells).find(contents.numbers, contents.effort).count


def rows_in_texts(contents: Contents, known: KnownData) -> int:
    scan = LineScan([known], together=1)
    lines = [line for found in contents.texts for line in found.text.splitlines()]
    return sum(bool(scan.rows_in(piece)) for line in lines for piece in pieces(line))
