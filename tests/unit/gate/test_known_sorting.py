"""Sorting on disk gives what sorting in memory gives, however little memory there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.gate.known.sorting import ExternalSort, order_of, without_common

RNG = np.random.default_rng(0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), max_size=60))
def test_any_floats_are_put_in_order(values):
    array = np.array(values, dtype=np.float64)
    assert array[order_of(array)].tolist() == sorted(values)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=60))
def test_any_hashes_are_put_in_order(values):
    array = np.array(values, dtype=np.uint64)
    assert array[order_of(array)].tolist() == sorted(values)


def test_values_that_differ_in_their_last_bits_alone_are_put_in_order():
    close = np.concatenate(
        [1.0 + RNG.integers(0, 1000, 5000) * 2.0**-50, -RNG.normal(size=5000) * 1e300, [0.0, np.inf]]
    )
    assert np.array_equal(close[order_of(close)], np.sort(close))


def test_equal_values_stay_in_their_order():
    values = np.repeat([2.0, 1.0], 5)
    assert order_of(values).tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


def test_both_zeros_are_one_value():
    values = np.array([0.0, -0.0, -1.0, 0.0, -0.0])
    assert order_of(values).tolist() == [2, 0, 1, 3, 4]


@pytest.mark.parametrize("different", [2, 50, 5_000])
@pytest.mark.parametrize("memory_bytes", [1, 100_000])
def test_equal_values_stay_in_their_order_on_disk_too(tmp_path, memory_bytes, different):
    keys, rows = RNG.integers(0, different, 20_000).astype(np.float64), np.arange(20_000, dtype=np.uint32)
    order = ExternalSort(tmp_path, "some", ("<f8", "<u4"), memory_bytes=memory_bytes)
    for part in np.array_split(np.arange(20_000), 9):
        order.add(keys[part], rows[part])
    places = np.concatenate([block[1] for block in order.blocks()])
    assert np.array_equal(places, np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("memory_bytes", [1, 200_000, 1 << 30])
def test_records_come_back_in_order_with_what_belongs_to_them(tmp_path, memory_bytes):
    keys, rows = RNG.integers(0, 500, 20_000).astype(np.float64), np.arange(20_000, dtype=np.uint32)
    order = ExternalSort(tmp_path, "some", ("<f8", "<u4"), memory_bytes=memory_bytes)
    for part in np.array_split(np.arange(20_000), 9):
        order.add(keys[part], rows[part])
    blocks = list(order.blocks())
    found, places = (np.concatenate(part) for part in zip(*blocks, strict=True))
    assert np.array_equal(found, np.sort(keys))
    assert np.array_equal(keys[places], found)
    assert np.array_equal(np.sort(places), rows)
    assert list(tmp_path.iterdir()) == []


def test_what_is_forgotten_leaves_nothing_behind(tmp_path):
    order = ExternalSort(tmp_path, "some", ("<u8",), memory_bytes=1)
    order.add(RNG.integers(0, 9, 5000).astype(np.uint64))
    assert list(tmp_path.iterdir())
    order.clear()
    assert list(tmp_path.iterdir()) == []
    assert [len(block) for (block,) in order.blocks()] in ([], [0])


@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_common_is_left_out_also_where_blocks_meet(size):
    values = np.sort(np.array([1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5], dtype=np.uint64))
    blocks = [(values[start : start + size],) for start in range(0, len(values), size)]
    assert np.concatenate(list(without_common(iter(blocks), most=3))).tolist() == [1, 2, 3, 5]
