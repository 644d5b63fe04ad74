"""Lines that are bytes in disguise, in small pieces; and ordinary ones."""

import base64
import zlib

import pytest

from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.disguise import Disguise

TEXT = b"Zuzuqua Holholgax,QX007919,16007.137,564.0713,91.00517"


def pieces(encoded: str, size: int) -> str:
    return " ".join(encoded[at : at + size] for at in range(0, len(encoded), size))


@pytest.mark.parametrize("size", [4, 5, 6, 8])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.b32encode, base64.b16encode, bytes.hex])
def test_encodings_in_groups_are_seen(encode, size):
    encoded = encode(TEXT)
    assert Disguise().is_worn_by(pieces(encoded if isinstance(encoded, str) else encoded.decode(), size))


@pytest.mark.parametrize("text", ["".join(f"%{byte:02X}" for byte in TEXT), base64.b85encode(TEXT * 3).decode()])
def test_escapes_and_base_85_are_seen(text):
    assert Disguise().is_worn_by(text)


def test_one_odd_word_a_line_is_bounded_over_all_lines():
    some = Disguise()
    words = pieces(base64.b32encode(TEXT * 20).decode(), 7).split()
    assert sum(len(word) for word in words if not some.is_worn_by(f"now {word} then")) < 900


@pytest.mark.parametrize("size", [8, 12, 20])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_that_end_in_pieces_of_base_64_are_seen_within_a_row(size, packed):
    some = Disguise()
    encoded = base64.b64encode(zlib.compress(TEXT * 9, 9) if packed else TEXT * 9).decode()
    lines = [f"step {at}: {encoded[at : at + size]}" for at in range(0, len(encoded), size)]
    said = [line for line in lines if not some.is_worn_by(line)]
    assert sum(len(line.split(": ")[1]) for line in said[:10]) <= 64
    assert all(line not in said for line in lines[: len(encoded) // size][10:])


def test_words_of_the_signed_code_are_not_odd():
    some = Disguise(lambda: CodeWords(words=frozenset(f"layer{n}conv{n}" for n in range(100))))
    assert not any(some.is_worn_by(f"layer{n}conv{n}") for n in range(100))


def test_numbers_that_count_may_be_long_and_others_are_bounded():
    some = Disguise()
    assert not any(some.is_worn_by(f"step {step} of 500000") for step in range(100_000, 120_000, 100))
    numbers = [f"{number * 7919 % 99991:05d}{number * 104729 % 99991:05d}" for number in range(1, 200)]
    assert sum(not some.is_worn_by(f"seen {number}") for number in numbers) < 40


@pytest.mark.parametrize(
    "line",
    [
        "Epoch 12/200 ======================== loss=0.1234 val_loss=0.2345",
        "100%|██████████| 50/50 [00:01<00:00, 41.2it/s]",
        "{'C': 1.0, 'max_iter': 1000, 'penalty': 'l2', 'solver': 'lbfgs'}",
        "HistGradientBoostingClassifier(max_iter=200, learning_rate=0.05)",
        "[[53  2]",
        "   macro avg       0.98      0.98      0.98       143",
        "/opt/env/lib/python3.11/site-packages/sklearn/linear_model/_logistic.py:469: ConvergenceWarning: lbfgs failed",
        "2026-11-23 12:45:18,123 INFO training_script_for_breast_cancer started with seed 42",
        "",
    ],
)
def test_ordinary_lines_are_no_disguise(line):
    some = Disguise()
    assert not any(some.is_worn_by(line) for _ in range(50))
