"""Codes that learn what comes again."""

import pytest

from insitu.gate.channels.adaptive import Counts, Sequence

SYMBOLS = "abacabadabacabae"


def test_prices_in_a_context_are_those_of_a_prefix_code():
    counts = Counts()
    for symbol in SYMBOLS:
        counts.add(symbol)
        shares = [2 ** -(counts.bits(known) or 0.0) for known in sorted(set(SYMBOLS)) if counts.bits(known) is not None]
        assert sum(shares) + 2**-counts.new == pytest.approx(1.0)


def test_a_symbol_that_is_new_has_no_price_of_its_own():
    counts = Counts()
    counts.add("a")
    assert counts.bits("b") is None
    assert counts.new == 1.0


def told(symbols: str, named: float = 4.0) -> float:
    sequence = Sequence()
    for symbol in symbols:
        sequence.comes(symbol, sequence.with_next(symbol, named))
    return Sequence.told(sequence.bits)


@pytest.mark.parametrize("symbols", ["a" * 300, "ab" * 150, "aab" * 100, ("a" * 9 + "b") * 30, ("a" * 49 + "bc") * 6])
def test_a_loop_tells_little(symbols):
    assert told(symbols) < 100


def test_a_choice_of_two_tells_a_bit_a_line():
    bits = "".join("ab"[int(digit)] for digit in f"{3**500:b}")
    assert 0.9 * len(bits) < told(bits) < 1.1 * len(bits) + 30


def test_what_is_only_asked_tells_nothing():
    sequence = Sequence()
    before = sequence.bits
    sequence.with_next("a", 4.0)
    assert sequence.bits == before
