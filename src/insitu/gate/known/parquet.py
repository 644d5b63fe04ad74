"""Reads parquet files for the index, in blocks of whole rows, a page of each column at a time.

The pages of two columns end at different rows; what of a page was not used yet waits
for the others. So memory holds one page and one dictionary of each column, whatever
the file's size. Pages are decoded by the reader that looks at what jobs wrote.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from insitu.domain.errors import InvalidInputError
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.known.cells import hash_cell
from insitu.gate.known.csv import MAX_COLUMNS, broken
from insitu.gate.known.decimals import Floats
from insitu.gate.known.files import DataFile, on_disk
from insitu.gate.known.fingerprints import HashKey, Words
from insitu.gate.readers.parquet import Leaf, leaves_of, pages_of, read_footer, row_groups
from insitu.gate.readers.parquet_values import BYTE_ARRAY, DOUBLE, FIXED, FLOAT, Values
from insitu.gate.readers.thrift import Struct

_DECIMAL = 5  # ConvertedType, parquet.thrift
_ENDLESS = 1 << 62
_REMEMBERED = 100_000
"""Texts whose hashes are kept at hand: most columns of text have few."""


@dataclass
class ParquetColumn:
    """A column of the dataset: of numbers or of text."""

    leaf: Leaf
    _hashes: dict[bytes, int] = field(default_factory=dict[bytes, int])

    @property
    def is_decimal(self) -> bool:
        return self.leaf.converted == _DECIMAL and self.leaf.type in (BYTE_ARRAY, FIXED)

    @property
    def is_text(self) -> bool:
        return self.leaf.type in (BYTE_ARRAY, FIXED) and not self.is_decimal

    @property
    def is_whole(self) -> bool:
        return self.leaf.type not in (FLOAT, DOUBLE) and not self.leaf.scale

    def numbers(self, values: Values) -> Floats:
        """Its values as numbers; NaN for missing ones."""
        if isinstance(values, list):
            found = [int.from_bytes(value, "big", signed=True) if value else np.nan for value in values]
            return np.array(found, dtype=np.float64) / 10.0**self.leaf.scale
        numbers = values.astype(np.float64)
        return numbers / 10.0**self.leaf.scale if self.leaf.converted == _DECIMAL and self.leaf.scale else numbers

    def hashes(self, values: Values, key: HashKey) -> Words:
        """Its values as hashes of cells; 0 for missing ones."""
        known = self._hashes
        out = np.zeros(len(values), dtype=np.uint64)
        for at, value in enumerate(values if isinstance(values, list) else []):
            found = known.get(value)
            if found is None:
                found = hash_cell(key, value.decode("utf-8", "replace"))
                if len(known) < _REMEMBERED:
                    known[value] = found
            out[at] = found
        return out


@dataclass(frozen=True)
class ParquetBlock:
    """Some rows: the values of each column, as many of each."""

    columns: list[Values]

    @property
    def rows(self) -> int:
        return len(self.columns[0])

    def text(self, columns: Sequence[int]) -> bytes:
        """What stands in these columns, as lines, for fingerprints of it."""
        cells = [values for at in columns if isinstance(values := self.columns[at], list)]
        return b"\n".join(b" ".join(row) for row in zip(*cells, strict=True)) + b"\n" if cells else b""


class ParquetFiles:
    """A dataset in parquet files of one schema."""

    def __init__(self, files: Sequence[DataFile], *, block_bytes: int) -> None:
        self._files, self._block_bytes = files, block_bytes
        self.columns: list[ParquetColumn] = []

    def blocks(self) -> Iterator[ParquetBlock]:
        """All rows, in order.

        Raises:
            InvalidInputError: a file is no such table. The text is for the site only.
        """
        for path in self._files:
            try:
                yield from self._file(path, _mapped(path))
            except (NotReadableError, OutOfEffortError, IndexError, ValueError) as error:
                raise InvalidInputError(
                    f"{path.name} can't be read as parquet: {error}",
                    code="data-broken",
                    hint="write it again without encryption and with plain or dictionary encodings, e.g. by pyarrow",
                ) from error

    def _file(self, path: DataFile, view: memoryview) -> Iterator[ParquetBlock]:
        footer, _, _ = read_footer(view)
        self._take_schema(path, leaves_of(footer))
        # Not what a job wrote: it may be as large as it is. A page that grows out of proportion still ends it.
        limits = Limits(
            time_s=float("inf"), expansion_bytes=_ENDLESS, members=_ENDLESS, values=_ENDLESS, search_bytes=0
        )
        for group in row_groups(footer):
            if len(group) != len(self.columns):
                raise broken(path, 0, "a group of rows has another number of columns")
            yield from self._group(path, view, group, Effort(limits))

    def _take_schema(self, path: DataFile, leaves: list[Leaf]) -> None:
        names = [leaf.name for leaf in leaves]
        if not leaves or len(leaves) > MAX_COLUMNS or len(set(names)) != len(names):
            raise broken(path, 0, f"it has no columns, repeated ones, or more than {MAX_COLUMNS}")
        nested = next((leaf.name for leaf in leaves if leaf.repetitions), None)
        if nested is not None:
            raise broken(path, 0, f"the column {nested!r} holds lists, which are no cells of a row")
        if not self.columns:
            self.columns = [ParquetColumn(leaf) for leaf in leaves]
        known = [(column.leaf.name, column.leaf.type, column.leaf.scale) for column in self.columns]
        if known != [(leaf.name, leaf.type, leaf.scale) for leaf in leaves]:
            raise broken(path, 0, "its columns differ from those of the first file")

    def _group(self, path: DataFile, view: memoryview, group: list[Struct], effort: Effort) -> Iterator[ParquetBlock]:
        most = max(256, self._block_bytes // (8 * len(group)))
        waiting = [
            _Waiting(pages_of(view, chunk, column.leaf, effort))
            for chunk, column in zip(group, self.columns, strict=True)
        ]
        while True:
            there = [column.there() for column in waiting]
            rows = min(most, *there) if len(there) > 1 else min(most, there[0])
            if not rows:
                if any(there):
                    raise broken(path, 0, "its columns differ in length")
                return
            yield ParquetBlock([column.take(rows) for column in waiting])


class _Waiting:
    """A column's pages, of which the first may be used in part."""

    def __init__(self, pages: Iterator[tuple[bool, Values]]) -> None:
        self._pages = (values for is_dictionary, values in pages if not is_dictionary)
        self._page: Values = []
        self._at = 0

    def there(self) -> int:
        """How many values are at hand; none only at the end."""
        while self._at == len(self._page):
            page = next(self._pages, None)
            if page is None:
                return 0
            self._page, self._at = page, 0
        return len(self._page) - self._at

    def take(self, count: int) -> Values:
        self._at += count
        return self._page[self._at - count : self._at]


def _mapped(path: DataFile) -> memoryview:
    """The file's bytes, for as long as something made of them is used."""
    with on_disk(path) as place, place.open("rb") as stream:
        if not place.stat().st_size:
            raise NotReadableError("it is empty")
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
