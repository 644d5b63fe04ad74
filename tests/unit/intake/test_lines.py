"""Bytes of a stream become lines as a person would see them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.intake.lines import CUT_MARK, MAX_LINE_BYTES, LineSplitter


def lines(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.end())


def test_lines_are_joined_across_chunks_and_the_last_needs_no_end():
    assert lines(b"one\ntw", b"o\n", b"three") == ["one", "two", "three"]


def test_an_empty_line_is_a_line():
    assert lines(b"a\n\nb\n") == ["a", "", "b"]


def test_of_a_progress_bar_the_last_state_is_a_line():
    assert lines(b"\r 1%", b"\r 50%", b"\r100%\n", b"done\n") == ["100%", "done"]


def test_a_carriage_return_before_the_end_of_a_line_means_nothing():
    assert lines(b"dos\r\n", b"split\r", b"\nnext\n") == ["dos", "split", "next"]


def test_an_endless_progress_bar_takes_no_memory():
    splitter = LineSplitter()
    for number in range(100_000):
        assert not list(splitter.feed(b"\r%d" % number))
    assert list(splitter.end()) == ["99999"]
    assert len(splitter._line) <= MAX_LINE_BYTES


def test_a_long_line_is_cut_and_says_so_and_the_next_one_is_whole():
    first, second = lines(b"x" * 50_000, b"y" * 50_000 + b"\nnext\n")
    assert first.endswith(CUT_MARK)
    assert len(first) <= MAX_LINE_BYTES
    assert second == "next"


def test_a_line_of_exactly_the_bound_is_whole():
    assert lines(b"x" * MAX_LINE_BYTES + b"\n") == ["x" * MAX_LINE_BYTES]


def test_bytes_that_are_no_text_are_replaced():
    assert lines(b"a\xff\xfeb\n") == ["a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]52;c;ZXZpbA==\x1b\\text", "text"),
        (b"tab\there", "tab\there"),
        (b"bell\x07", "bell\N{REPLACEMENT CHARACTER}"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}x".encode(), "\N{REPLACEMENT CHARACTER}x"),
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode(), "\N{LATIN SMALL LETTER U WITH DIAERESIS}"),
    ],
)
def test_what_would_steer_a_terminal_is_taken_out(raw, shown):
    assert lines(raw + b"\n") == [shown]


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=50))
def test_where_the_chunks_are_split_makes_no_difference(data, size):
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert lines(*pieces) == lines(data)
