"""Times of events: whole seconds, in order."""

from datetime import UTC, datetime, timedelta

from insitu.intake.coarse_time import CoarseClock

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_the_moment_within_a_second_is_not_told_and_the_order_is():
    times = iter([NOON + timedelta(seconds=at) for at in (0.1, 0.7, 0.9, 1.2, 3.999, 2.5)])
    clock = CoarseClock(lambda: next(times))
    told = [(clock() - NOON).total_seconds() for _ in range(6)]
    assert told == [0, 0.001, 0.002, 1, 3, 3.001]


def test_many_events_of_a_second_stay_in_it():
    clock = CoarseClock(lambda: NOON)
    assert max(clock() for _ in range(3000)) < NOON + timedelta(seconds=1)
