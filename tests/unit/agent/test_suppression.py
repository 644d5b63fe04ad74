"""No figure that leaves stands for fewer than k rows, whatever the column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.agent.suppression import common_categories, figures, missing_band, whole_categories

K = st.integers(5, 30)
REALS = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), max_size=200)
INTEGERS = st.lists(st.integers(-(2**53), 2**53), max_size=200)


def ordered(values: list[float]) -> np.ndarray:
    return np.sort(np.array(values, dtype=np.float64))


@given(REALS, K)
def test_k_rows_lie_at_or_beyond_the_step_in_which_each_end_of_a_range_lies(values: list[float], k: int) -> None:
    column = ordered(values)
    found = figures(column, k)
    if found.range is None:
        return
    low, high = found.range
    assert low <= high
    assert (column <= low + found.step).sum() >= k
    assert (column >= high - found.step).sum() >= k


@given(REALS, K)
def test_a_range_is_rounded_outward_and_leaves_out_at_most_k_rows_on_each_side(values: list[float], k: int) -> None:
    column = ordered(values)
    found = figures(column, k)
    if found.range is not None:
        low, high = found.range
        assert (column < low).sum() < k
        assert (column > high).sum() < k


@given(REALS, K, st.integers(0, 1000), st.floats(allow_nan=False, allow_infinity=False))
def test_a_single_row_beyond_the_ends_changes_no_figure(values: list[float], k: int, place: int, far: float) -> None:
    """The smallest and the largest value are one person's each: nobody may see them move."""
    column = ordered(values)
    found = figures(column, k)
    if found.range is None:
        return
    changed = column.copy()
    if place % 2:
        changed[-1] = max(float(column[-1]), far)
    else:
        changed[0] = min(float(column[0]), far)
    assert figures(np.sort(changed), k) == found


@given(REALS, K)
def test_k_rows_lie_in_each_quarter_of_published_quartiles(values: list[float], k: int) -> None:
    column = ordered(values)
    found = figures(column, k)
    if found.quartiles is None:
        return
    lower, middle, upper = found.quartiles
    assert lower <= middle <= upper
    step = found.step
    for low, high in ((-np.inf, lower), (lower, middle), (middle, upper), (upper, np.inf)):
        assert ((column >= low - step) & (column <= high + step)).sum() >= k


@given(st.lists(st.floats(-1e9, 1e9), min_size=30, max_size=200), st.integers(5, 10))
def test_a_range_is_told_in_at_most_a_few_steps(values: list[float], k: int) -> None:
    column = ordered(values)
    found = figures(column, k)
    assert found.range is not None
    low, high = found.range
    assert round((high - low) / found.step) <= 22


@given(REALS, K)
def test_fewer_than_three_times_k_rows_tell_nothing(values: list[float], k: int) -> None:
    column = ordered(values[: 3 * k - 1])
    assert figures(column, k).range is None
    assert figures(column, k).quartiles is None


@given(INTEGERS, K)
def test_integers_stay_integers(values: list[int], k: int) -> None:
    found = figures(ordered([float(one) for one in values]), k, whole=True)
    told = [*(found.range or ()), *(found.quartiles or ())]
    assert all(one == int(one) for one in told)


@given(st.dictionaries(st.text(max_size=80), st.integers(0, 60), max_size=80), K)
def test_a_category_that_fewer_than_k_rows_have_never_appears(counts: dict[str, int], k: int) -> None:
    told = common_categories(counts, k)
    assert all(counts[name] >= k for name in told)
    assert all(len(name) <= 60 and name.isprintable() for name in told)
    assert told == sorted(told), "in an order that tells nothing of how many rows have which"


@given(st.lists(st.integers(-5, 5), max_size=300), K)
def test_nor_does_a_whole_number(values: list[int], k: int) -> None:
    for told in whole_categories(ordered([float(one) for one in values]), k):
        assert values.count(int(told)) >= k


@given(st.integers(1, 5000), st.data(), K)
def test_a_share_of_missing_values_moves_only_where_k_rows_are_on_each_side(
    rows: int, data: st.DataObject, k: int
) -> None:
    missing = data.draw(st.integers(0, rows))
    band = missing_band(rows, missing, k)
    if band not in ("few", "most"):
        assert missing >= k
        assert rows - missing >= k
        low, high = (float(end) / 100 for end in band.removesuffix("%").split("-"))
        assert low * rows <= missing < high * rows
    if band == "few":
        assert missing < max(k, 0.05 * rows)


@pytest.mark.parametrize("missing", [0, 1, 9])
def test_one_missing_value_looks_like_none(missing: int) -> None:
    assert missing_band(100, missing, 10) == "few"
