"""All cells of a table come in one order, whatever of them was kept in memory and however they were merged."""

import numpy as np
import pytest

from insitu.gate.known.files import load_npy
from insitu.gate.known.order import CellsAside, write_numbers

RNG = np.random.default_rng(0)
ROWS = 60_000
COLUMNS = {
    "decimals": RNG.normal(size=ROWS),
    "flags": RNG.integers(0, 2, ROWS).astype(np.float64),
    "constant": np.ones(ROWS),
    "with gaps": np.where(RNG.random(ROWS) < 0.3, np.nan, np.round(RNG.normal(size=ROWS), 1)),
    "empty": np.full(ROWS, np.nan),
}


def written(folder, memory_bytes: int) -> list[int]:
    cells = CellsAside(folder / ".cells", "<f8", len(COLUMNS), memory_bytes // 8)
    for part in np.array_split(np.arange(ROWS), 7):
        cells.add([values[part] for values in COLUMNS.values()], len(part))
    try:
        return write_numbers(cells, folder, memory_bytes, map)
    finally:
        cells.close()


@pytest.mark.parametrize("memory_bytes", [1 << 16, 1 << 21, 1 << 30])
def test_cells_are_ordered_by_value_then_column_then_row(tmp_path, memory_bytes):
    written(tmp_path, memory_bytes)
    all_values = np.concatenate(list(COLUMNS.values()))
    order = np.argsort(all_values, kind="stable")
    order = order[np.isfinite(all_values[order])]
    assert np.array_equal(load_npy(tmp_path / "cells-values.npy"), all_values[order])
    assert np.array_equal(load_npy(tmp_path / "cells-columns.npy"), order // ROWS)
    assert np.array_equal(load_npy(tmp_path / "cells-rows.npy"), order % ROWS)


def test_each_column_has_its_own_part_of_the_order(tmp_path):
    starts = written(tmp_path, 1 << 21)
    ordered = load_npy(tmp_path / "order-values.npy")
    for number, values in enumerate(COLUMNS.values()):
        finite = values[np.isfinite(values)]
        assert np.array_equal(ordered[starts[number] : starts[number + 1]], np.sort(finite))


def test_what_does_not_fit_in_memory_comes_back_from_disk_and_leaves_nothing(tmp_path):
    cells = CellsAside(tmp_path / ".cells", "<f8", 2, memory_bytes=40)
    for start in (0, 2, 4):
        cells.add([np.arange(start, start + 2.0), -np.arange(start, start + 2.0)], 2)
    assert (tmp_path / ".cells").exists()
    assert np.concatenate(list(cells.column(0))).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.concatenate(list(cells.column(1))).tolist() == [0, -1, -2, -3, -4, -5]
    cells.close()
    assert list(tmp_path.iterdir()) == []
