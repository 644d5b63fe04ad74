"""The ceiling is the length of a code word: never less than what somebody could hide, and near it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insitu.gate.canonical.precision import Rounding
from insitu.gate.ceiling import (
    bits_of_array,
    bits_of_choices,
    bits_of_grid,
    bits_of_integers,
    bits_of_values,
    bytes_of_text,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("precision", "hidden"), [("bfloat16", 7), ("float16", 10), ("float32", 23)])
def test_all_bits_that_survive_rounding_are_counted(precision, hidden):
    """A message in sign and significant bits of each weight, as long as it can be."""
    weights = RNG.choice([-1.0, 1.0], 5000) * (1 + RNG.integers(0, 2**hidden, 5000) / 2**hidden)
    rounded = Rounding(precision).weights(weights.astype(np.float32))
    assert np.array_equal(rounded, weights)  # the message survives
    assert bits_of_values(rounded) >= 5000 * (1 + hidden)
    assert bits_of_values(rounded) <= 5000 * (1 + hidden) * 1.01 + 200


def test_exponents_that_are_used_are_counted():
    exponents = RNG.integers(-100, 100, 5000)
    assert bits_of_values(np.ldexp(1.0, exponents)) >= 5000 * math.log2(200) - 10


def test_signs_alone_are_one_bit_each():
    assert 5000 <= bits_of_values(RNG.choice([-0.5, 0.5], 5000).astype(np.float32)) <= 5000 + 300


@given(hnp.arrays(st.sampled_from(["i1", "u1", "i4", "i8"]), st.integers(1, 200)))
def test_integers_are_counted_in_full(values):
    different = len(np.unique(values))
    assert bits_of_values(values) >= math.floor(math.log2(different)) * (len(values) - different)
    assert bits_of_values(values) <= values.nbytes * 8 + 200


def test_int8_weights_count_eight_bits_each():
    weights = RNG.integers(-128, 128, 10_000).astype(np.int8)
    assert 80_000 <= bits_of_values(weights) <= 80_200


def test_integers_of_any_size_are_counted():
    assert bits_of_integers([2**4000 + 12345]) > 4000
    assert bits_of_integers([]) == 0


def test_zeros_and_constants_are_nearly_free_whatever_the_shape():
    assert bits_of_array(np.zeros((500, 500), dtype=np.float32)) < 200
    assert bits_of_array(np.full((500, 500), 0.1)) < 400
    assert bits_of_array(np.empty((0, 3))) < 200


def test_numbers_that_are_none_are_counted_too():
    hidden = np.where(RNG.integers(0, 2, 5000), np.nan, np.inf)
    assert bits_of_values(hidden) >= 5000


def test_text_that_everybody_knows_is_nearly_free_and_other_text_is_not():
    columns = b"mean radius,mean texture,mean perimeter,mean area"
    secret = RNG.integers(33, 126, 500, dtype=np.uint8).tobytes()
    assert bytes_of_text(columns, columns) < 20
    assert bytes_of_text(secret, columns) > 400
    assert bytes_of_text(secret) <= len(secret) + 4


def test_thresholds_on_a_grid_cost_their_steps_and_not_single_precision():
    values, groups = RNG.normal(size=20_000), RNG.integers(0, 20, 20_000)
    rounded = Rounding("bfloat16").on_grid(values, groups)
    assert bits_of_grid(rounded, groups, "bfloat16") <= 20_000 * 16.2 + 2000
    assert bits_of_grid(rounded, groups, None) == bits_of_values(rounded)


def test_choices_are_logarithms():
    assert bits_of_choices(8, 256) == 64
    assert bits_of_choices(8, 1) == 0
