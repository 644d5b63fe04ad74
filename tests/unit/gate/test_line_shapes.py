"""Lines taken apart into what repeats and what changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.gate.channels.line_shapes import RUN, WHOLE, Part, hide, take_apart


def hidden(text: str, places: set[int]) -> str:
    return hide(text, take_apart(text), places)


ALPHABET = st.sampled_from("ab01239.= -:_█é")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("epoch 3: loss 0.3121", "epoch 14: loss 12.9876"),
        ("[====>    ]", "[=======> " + "    ]"),
        ("loss   9.1", "loss  10.1"),
        ("v1.2.3", "v10.20.30"),
    ],
)
def test_lines_of_one_print_have_one_shape(one, other):
    assert take_apart(one).shape == take_apart(other).shape


@pytest.mark.parametrize(
    ("one", "other"),
    [("finished", "completed"), ("loss 3", "loss -3"), ("a b", "a  b"), ("loss 3", "loss 3 "), ("Loss 3", "loss 3")],
)
def test_what_somebody_chose_otherwise_is_another_shape(one, other):
    assert take_apart(one).shape != take_apart(other).shape


def test_numbers_are_counted_in_units_of_their_last_digit_with_the_form_they_were_printed_in():
    assert take_apart("a 12 b 0.3121 c 007").parts == (
        Part(12, WHOLE, 2),
        Part(3121, 4, 1),
        Part(7, WHOLE, 3, zeros=True),
    )


def test_columns_that_are_filled_up_with_blanks_keep_their_width():
    assert take_apart("loss    9.1").parts[0] == take_apart("loss   10.1").parts[0] == Part(7, RUN)
    assert take_apart("9.1    of").parts[1] == take_apart("10.1   of").parts[1]


def test_hidden_numbers_are_dots_and_hidden_runs_are_short():
    assert hidden("epoch 3: 0.3121 [========] 5 of 6", {1, 2, 4}) == "epoch 3: \u2026 [====] 5 of \u2026"
    assert hidden("epoch 3: 0.3121, 5 of 06", {1, 3}) == "epoch 3: \u2026, 5 of \u2026"


@given(st.text(ALPHABET, max_size=40))
def test_what_is_taken_apart_is_whole_and_each_part_can_be_hidden(text):
    parts = take_apart(text).parts
    assert hidden(text, set()) == text
    shown = hidden(text, set(range(len(parts))))
    assert not any(character.isdigit() for character in shown)


@given(st.text(ALPHABET, max_size=30), st.text(ALPHABET, max_size=30))
def test_two_lines_are_one_only_if_shape_and_parts_are(one, other):
    assert (take_apart(one)[:2] == take_apart(other)[:2]) == (one == other)
