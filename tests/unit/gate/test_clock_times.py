"""Times of loggers that agree with the gate's clock are the gate's own."""

import datetime as dt

import pytest

from insitu.gate.channels.clock_times import TIME_MARKS, mark_times, say_times

AT = dt.datetime(2026, 11, 28, 17, 24, 5, 250_000, tzinfo=dt.UTC)


def as_it_leaves(text: str, at: dt.datetime = AT) -> str:
    return say_times(mark_times(text, at), at)


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("2026/11/28 17:24:02 WARNING mlflow.sklearn: x", "2026/11/28 17:24:05 WARNING mlflow.sklearn: x"),
        ("2026-11-28 17:24:02,123 INFO x", "2026-11-28 17:24:05,000 INFO x"),
        ("[I 2026-11-28 17:24:02,987] x", "[I 2026-11-28 17:24:05,000] x"),
        ("INFO:2026-11-28T17:24:02.123456+00:00: x", "INFO:2026-11-28T17:24:05.000000+00:00: x"),
        ("2026-11-28T17:23:59Z x", "2026-11-28T17:24:05Z x"),
        ("[17:24:01] x", "[17:24:05] x"),
        ("17:24:06 x", "17:24:05 x"),
        ("I1128 17:24:02.123456 12 train.py:3] x", "I1128 17:24:05.000000 12 train.py:3] x"),
    ],
)
def test_a_time_of_now_is_said_by_the_gate_in_its_own_form(line, left):
    assert as_it_leaves(line) == left


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-28 17:22:02 a minute too old",
        "2026-11-28 17:24:09 in the future",
        "2026-11-27 17:24:02 of yesterday",
        "2026-13-41 17:24:02 of no day",
        "17:99:99 of no time",
        "took 17:24:02 in all",
        "2026-11-28 17:24:02.12 in a form that no logger has",
        "ratio 17:24:02:11",
        "2026-11-28",
        "",
    ],
)
def test_other_times_are_numbers_like_any_others(line):
    assert mark_times(line, AT) == line


def test_a_line_of_just_before_midnight_may_come_after_it():
    assert as_it_leaves("23:59:58 x", dt.datetime(2026, 11, 29, 0, 0, 1, tzinfo=dt.UTC)) == "00:00:01 x"


def test_whoever_chooses_the_digits_says_the_same():
    lines = {
        mark_times(f"2026-11-28 17:{23 + at // 60:02d}:{at % 60:02d},{at * 37 % 1000:03d} x", AT)
        for at in range(10, 66)
    }
    assert len(lines) == 1


def test_no_mark_can_be_written_by_a_job():
    assert not any(mark.isprintable() for mark in TIME_MARKS)
