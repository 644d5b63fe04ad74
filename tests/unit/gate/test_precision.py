"""Rounding: close to what was written, the same when done twice, and no room in the low bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insitu.gate.canonical.precision import FINE_VALUES, GRID_STEPS, SIGNIFICANT, SMALL, Rounding

ANY_FLOATS = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", ">f4", ">f8"]), hnp.array_shapes(max_dims=3), elements={"allow_nan": True}
)
NORMAL = st.floats(min_value=1e-30, max_value=1e30).flatmap(lambda x: st.sampled_from([x, -x]))
precisions = st.sampled_from(["bfloat16", "float16", "float32"])


def low_bits(values: np.ndarray, kept: int) -> np.ndarray:
    """What stands below the `kept` significant bits of single-precision numbers."""
    return values.astype(np.float32).view(np.uint32) & np.uint32((1 << (24 - kept)) - 1)


@given(ANY_FLOATS, precisions)
def test_rounding_twice_is_rounding_once(values, precision):
    once = Rounding(precision).weights(values)
    again = Rounding(precision).weights(once)
    assert once.dtype.itemsize == values.dtype.itemsize
    assert once.tobytes() == again.tobytes()


@given(st.lists(NORMAL, min_size=1, max_size=20), precisions)
def test_numbers_stay_within_half_of_the_last_bit_that_is_kept(numbers, precision):
    values = np.array(numbers)
    rounded = Rounding(precision).weights(values)
    assert np.all(np.abs(rounded - values) <= np.abs(values) * 2.0 ** -SIGNIFICANT[precision])


@pytest.mark.parametrize("width", ["f4", "f8"])
def test_nothing_survives_in_the_low_bits(width):
    weights = np.random.default_rng(1).normal(size=1000).astype(width)
    bits = np.uint32 if width == "f4" else np.uint64
    secret = np.random.default_rng(2).integers(0, 2**15, 1000).astype(bits)
    marked = ((weights.view(bits) & ~bits(0xFFFF)) | secret).view(width)
    plain = (weights.view(bits) & ~bits(0xFFFF)).view(width)
    assert not low_bits(Rounding("bfloat16").weights(marked), 8).any()
    assert np.array_equal(Rounding("bfloat16").weights(marked), Rounding("bfloat16").weights(plain))


def test_payloads_of_nans_signs_of_zeros_and_denormals_do_not_survive():
    secret = np.array([0x7FC12345, 0xFFC54321, 0x80000000, 0x00000123], dtype=np.uint32).view(np.float32)
    rounded = Rounding("float32").weights(secret)
    assert len(set(rounded[:2].view(np.uint32).tolist())) == 1
    assert rounded[2:].view(np.uint32).tolist() == [0, 0]
    assert Rounding(None).weights(secret)[2].view(np.uint32) == 0


def test_the_largest_numbers_stay_finite_and_infinities_stay():
    values = np.array([3.4e38, -3.4e38, np.inf, -np.inf], dtype=np.float32)
    rounded = Rounding("bfloat16").weights(values)
    assert np.isfinite(rounded[:2]).all()
    assert np.isinf(rounded[2:]).all()
    assert np.isfinite(Rounding("bfloat16").weights(np.array([1e300]))).all()


def test_integers_stay():
    whole = np.arange(-128, 128, dtype=np.int8)
    assert Rounding("bfloat16").weights(whole) is whole


def test_small_arrays_keep_more_bits_until_a_model_has_used_them_up():
    year = np.full(SMALL, 1987.4)
    rounding = Rounding("bfloat16")
    for _ in range(FINE_VALUES // SMALL):
        assert np.abs(rounding.small(year) - year).max() < 0.02
    assert np.abs(rounding.small(year) - year).max() > 1
    assert np.abs(Rounding("bfloat16").small(np.full(SMALL + 1, 1987.4)) - 1987.4).max() > 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=60),
    precisions,
)
def test_thresholds_stay_near_and_stay_where_they_are_the_second_time(lines, precision):
    groups = np.array([group for group, _ in lines])
    values = np.array([value for _, value in lines])
    once = Rounding(precision).on_grid(values, groups)
    assert np.array_equal(Rounding(precision).on_grid(once, groups), once)
    for group in set(groups.tolist()):
        mine = groups == group
        step = (values[mine].max() - values[mine].min()) / GRID_STEPS
        close = np.abs(once[mine] - values[mine]) <= step / 2 + np.abs(values[mine]).max() * 1e-6 + 1e-37
        assert close.all()


def test_thresholds_on_a_date_stay_within_its_range():
    days = np.sort(np.random.default_rng(0).integers(738_000, 740_000, 500)).astype(np.float64) + 0.5
    rounded = Rounding("bfloat16").on_grid(days, np.zeros(500))
    assert np.abs(rounded - days).max() < 0.5  # no other day lies between
