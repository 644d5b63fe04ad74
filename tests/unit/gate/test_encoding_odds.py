"""Pieces of encodings speak for one, however short they are; words as people write them say little."""

import base64
import random

import pytest

from insitu.gate.channels.encoding_odds import WORD, odds_of
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.line_shapes import take_apart
from insitu.gate.channels.plain_words import PLAIN_WORDS

CEILING = 512
ROW_BITS = 8 * 60  # a short row of a table
DATA = random.Random(5).randbytes(4000)


def odds(text: str) -> float:
    return sum(odds_of(word, PLAIN_WORDS.__contains__) for word in WORD.findall(take_apart(text).shape))


NAMES = [
    "DenseNet121Block3Conv2",
    "GradientBoostingClassifier",
    "mobilenetv3_large_100",
    "val_balanced_accuracy",
    "worst_concave_points",
    "train_features_scaled.parquet",
    "StratifiedKFold",
    "enable_nested_tensor",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_as_people_make_them_says_little(name):
    assert odds(name) < 15


@pytest.mark.parametrize("around", ["{}", "fitting {}", "saved {}.npz"])
def test_names_as_people_make_them_are_no_pieces_of_an_encoding(around):
    account = LineCode(1 << 20)
    for name in NAMES:
        assert account.may_leave("stdout", around.format(name)) is not None, name
    assert not account.looks_encoded


ENCODINGS = {
    "base 64": lambda data: base64.b64encode(data).decode().rstrip("="),
    "base 64 for addresses": lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    "base 32": lambda data: base64.b32encode(data).decode().rstrip("="),
    "base 32, small": lambda data: base64.b32encode(data).decode().rstrip("=").lower(),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("length", [8, 12, 20])
def test_pieces_of_an_encoding_speak_for_it(encode, length):
    text = encode(DATA)
    pieces = [text[at : at + length] for at in range(0, 40 * length, length)]
    assert sum(odds(piece) for piece in pieces) > len(pieces) * length / 2


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("length", [8, 12, 20])
@pytest.mark.parametrize("around", ["chunk {}", "model={}", "{}", "reading the file {}.csv"])
def test_of_an_encoding_in_pieces_less_leaves_than_a_row_has(encode, length, around):
    account = LineCode(CEILING)
    text = encode(DATA)
    lines = [around.format(text[at : at + length]) for at in range(0, len(text), length)]
    left = [line for line in lines if account.may_leave("stdout", line) == line]
    assert len(left) * length * 6 < ROW_BITS
    assert account.may_leave("stdout", f"chunk {text[::-1][:length]}") is None
    assert account.looks_encoded


def test_what_everybody_says_leaves_also_after_pieces_of_an_encoding():
    account = LineCode(CEILING)
    for at in range(0, 720, 12):
        account.may_leave("stdout", base64.b64encode(DATA[at : at + 12]).decode())
    assert account.may_leave("stdout", "saved the model") == "saved the model"
