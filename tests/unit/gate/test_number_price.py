"""What the numbers of lines tell."""

import math
import random

import pytest

from insitu.gate.channels.line_shapes import take_apart
from insitu.gate.channels.number_price import MetricValues, Place


def told(numbers: list[str], metrics: MetricValues | None = None) -> float:
    place, total = Place(), 0.0
    for number in numbers:
        (part,) = take_apart(number).parts
        price = place.price(part, metrics or MetricValues())
        place.show(part, price)
        total += price.bits
    return total


@pytest.mark.parametrize(
    "numbers",
    [
        [str(step) for step in range(300)],
        [str(step) for step in range(0, 30_000, 100)],
        [f"{step:04d}" for step in range(300)],
        ["0.001"] * 300,
    ],
)
def test_counters_and_constants_tell_next_to_nothing(numbers):
    assert told(numbers) < 60


def test_a_loss_that_falls_slowly_tells_less_than_its_digits_and_chosen_digits_tell_what_they_carry():
    noise = random.Random(0)
    falling = [f"{math.exp(-step / 60) * 0.6 + 0.1 + noise.gauss(0, 5e-4):.4f}" for step in range(300)]
    chosen = [f"0.{noise.randrange(10_000):04d}" for _ in range(300)]
    assert told(falling) < 7.5 * 300
    assert told(chosen) > 13 * 300


def test_the_last_digit_of_a_loss_tells_three_bits():
    digits = random.Random(0).choices("01234567", k=300)
    assert told([f"0.312{digit}" for digit in digits]) > 3 * 300


@pytest.mark.parametrize("form", ["{:.4f}", "{:.3f}", "{:.1%}"])
def test_a_metric_that_has_left_is_repeated_for_nothing(form):
    metrics, noise = MetricValues(), random.Random(0)
    place, total = Place(), 0.0
    for _ in range(300):
        value = noise.uniform(0.1, 1)
        metrics.leaves("auc", float(f"{value:.4g}"))
        (part,) = take_apart(form.format(value).rstrip("%")).parts
        price = place.price(part, metrics)
        place.show(part, price)
        total += price.bits
    assert total < 300


def test_how_a_metric_is_rounded_where_it_could_go_either_way_is_a_bit():
    metrics = MetricValues()
    metrics.leaves("auc", 0.3125)
    place = Place()
    for number in ("0.312", "0.313") * 20:
        (part,) = take_apart(number).parts
        price = place.price(part, metrics)
        assert price.bits >= 1.0
        place.show(part, price)


def test_metrics_that_were_not_sent_for_long_are_forgotten():
    metrics = MetricValues()
    for number in range(40):
        metrics.leaves(f"m{number}", number + 0.25)
    assert metrics.find(25, 100.0) is None
    assert metrics.find(3925, 100.0) is not None


def test_numbers_that_come_and_go_blind_their_place():
    place = Place()
    for shown in (True, False) * 4:
        place.note_shown(shown)
    assert place.is_blind
    assert place.shown_bits(True) == 0.0


def test_a_place_that_always_shows_is_never_blind():
    place = Place()
    for _ in range(10_000):
        place.note_shown(True)
    assert not place.is_blind
