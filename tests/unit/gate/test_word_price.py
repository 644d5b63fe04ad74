"""What new lines tell, and the texts of code that make them cheap."""

import random
import string

import pytest

from insitu.gate.channels import word_price
from insitu.gate.channels.code_texts import bare_shape, texts_of
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.line_shapes import take_apart
from insitu.gate.channels.word_price import WordPrice

SOURCE = """
for epoch in range(10):
    print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss:.4f}")
    print("fold", fold, "auc", auc)
    log.info("grommet %d has %.3f", number, value)
    print("found {} frobs".format(count))
"""


def shape(line: str) -> str:
    return take_apart(line).shape


def price(line: str, source: str = "") -> float:
    return WordPrice(lambda: CodeWords(texts=texts_of(source))).of_shape(shape(line)).bits


@pytest.mark.parametrize(
    "line",
    [
        "epoch 3/10: loss 0.3121",
        "epoch 3/10: loss -0.3121",
        "fold 3 auc 0.912",
        "grommet 12 has 0.123",
        "found 3 frobs",
    ],
)
def test_a_line_that_the_code_prints_says_which_one_it_is(line):
    assert bare_shape(shape(line)) in texts_of(SOURCE)
    assert price(line, SOURCE) < 16
    assert price(line) > 35


@pytest.mark.parametrize("source", ["def (", "\x00", "(" * 5000, "x = 1", "'" + "a" * 2000 + "'"])
def test_code_that_does_not_parse_or_says_nothing_has_no_texts(source):
    assert texts_of(source) == frozenset()


def test_a_warning_of_a_library_is_known_wherever_it_is_installed():
    warning = "site-packages/sklearn/svm/_base.py:1249: ConvergenceWarning: Liblinear failed to converge, increase the number of iterations."
    assert price(warning) < 20
    assert price("/usr/lib/python3.12/" + warning) < 120


def test_words_that_nobody_knew_are_paid_by_the_letter_and_once():
    words = WordPrice()
    first = words.of_shape("qwrtzpsdf")
    assert first.spelled > 4.7 * 9
    words.say("qwrtzpsdf")
    again = words.of_shape("qwrtzpsdf!")
    assert (again.spelled, again.bits < first.bits) == (0.0, True)
    assert words.of_shape("loss").spelled == 0.0


def test_names_of_columns_are_known():
    assert WordPrice(names=["frobnication"]).of_shape("frobnication").spelled == 0.0


@pytest.mark.parametrize("line", ["\u0141\u0142\u0143", "lo\u0455s", "a\u200bb", "\u2500"])
def test_letters_beyond_ascii_that_look_like_others_or_like_nothing_are_dear(line):
    odd = sum(character > "~" for character in line)
    assert WordPrice().of_shape(line).spelled >= 21 * odd


@pytest.mark.parametrize("kinds", [word_price._BEHIND_WORD, word_price._BEHIND_OTHER])
def test_kinds_of_pieces_have_the_prices_of_a_prefix_code(kinds):
    said = {name: bits for name, bits in kinds._asdict().items() if bits}
    assert sum(2**-bits for bits in said.values()) <= 1.0


def test_random_letters_cost_what_they_carry():
    letters = random.Random(0).choices(string.ascii_lowercase, k=20)
    assert price("".join(letters)) > 4.7 * 20
