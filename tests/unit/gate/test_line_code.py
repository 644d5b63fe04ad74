"""The account of what lines tell: honest ones pass, and no way to choose lines tells more than the ceiling."""

import base64
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator

import pytest

from insitu.gate.channels.code_texts import texts_of
from insitu.gate.channels.code_words import CodeWords, words_of
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.number_price import MetricValues

CEILING = 512
EPOCHS = 200
TRAINING = """
print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss:.4f}, accuracy {right:.3f}, held-out loss {val_loss:.4f}")
print(f"  best held-out accuracy so far {best:.3f}, learning rate 0.002")
"""
WARNINGS = """\
/usr/lib/python3.11/site-packages/sklearn/linear_model/_logistic.py:465: ConvergenceWarning: lbfgs failed to converge (status=1):
STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT.

Increase the number of iterations (max_iter) or scale the data as shown in:
    https://scikit-learn.org/stable/modules/preprocessing.html
/usr/lib/python3.11/site-packages/xgboost/core.py:158: UserWarning: Parameters are not used by the booster.
  warnings.warn(smsg, UserWarning)
""".splitlines()


def code_of(source: str) -> CodeWords:
    return CodeWords(words=frozenset(words_of(source)), texts=texts_of(source))


def training(metrics: MetricValues | None) -> Iterator[str]:
    """A loop that logs its metrics, if there are any, and prints them."""
    noise, best = random.Random(0), 0.0
    for epoch in range(EPOCHS):
        loss = 0.6 * math.exp(-epoch / 60) + 0.1 + noise.gauss(0, 2e-3)
        right = 0.9 - loss / 3 + noise.gauss(0, 2e-3)
        best = max(best, right)
        if metrics:
            for name, value in (("loss", loss), ("accuracy", right), ("val_loss", loss * 1.1)):
                metrics.leaves(name, float(f"{value:.4g}"))
        yield f"epoch {epoch + 1}/{EPOCHS}: loss {loss:.4f}, accuracy {right:.3f}, held-out loss {loss * 1.1:.4f}"
        if epoch % 2:
            yield f"  best held-out accuracy so far {best:.3f}, learning rate 0.002"


def test_a_training_loop_that_logs_what_it_prints_leaves_whole():
    metrics = MetricValues()
    lines = LineCode(CEILING, metrics=metrics, code=lambda: code_of(TRAINING))
    left = [lines.may_leave("stderr", line) == line for line in WARNINGS]
    left += [lines.may_leave("stdout", line) == line for line in training(metrics)]
    assert (len(left), all(left)) == (len(WARNINGS) + 300, True)


@pytest.mark.parametrize("source", [TRAINING, ""])
def test_one_that_logs_nothing_leaves_too_with_numbers_hidden_in_the_end_but_those_that_count(source):
    lines = LineCode(CEILING, code=lambda: code_of(source))
    left = [lines.may_leave("stdout", line) for line in training(None)]
    assert None not in left
    assert left[0] == "epoch 1/200: loss " + str(left[0])[18:]
    assert str(left[-2]).startswith("epoch 200/200: loss \u2026")


@pytest.mark.parametrize(
    "lines",
    [
        [f"epoch {step} loss 0.5" if step % 10 else "saved checkpoint" for step in range(1000)],
        [
            f"2026-11-24 17:{step // 60:02d}:{step % 60:02d},{step * 7919 % 1000:03d} INFO epoch {step}"
            for step in range(300)
        ],
        [f"{'=' * step}>{'.' * (29 - step)}" for _ in range(20) for step in range(30)],
        [f"{name:>12} {value:6.2f}" for name, value in zip(itertools.cycle(["loss", "auc"]), range(300), strict=False)],
    ],
)
def test_lines_as_people_print_them_leave(lines):
    account = LineCode(CEILING)
    assert [line for line in lines if account.may_leave("stdout", line) is None] == []


def _bits(number: int) -> list[int]:
    return [int(bit) for bit in f"{3**4000:b}"[:number]]


def _choices() -> dict[str, list[tuple[str, str]]]:
    chance = random.Random(2)
    bits = _bits(4000)
    some = [chance.randrange(16) for _ in bits]
    return {
        "synonyms": [("stdout", f"epoch {at}: {'completed' if bit else 'finished'}") for at, bit in enumerate(bits)],
        "blank lines": [("stdout", "" if bit else "x") for bit in bits],
        "a blank at the end": [("stdout", "x " if bit else "x") for bit in bits],
        "capitals": [("stdout", "Done" if bit else "done") for bit in bits],
        "which stream": [("stdout" if bit else "stderr", "x") for bit in bits],
        "phrases": [("stdout", f"the {'abcdefghijklmnop'[one]} is done") for one in some],
        "length of a bar": [("stdout", f"[{'=' * one:16s}]") for one in some],
        "length of a word": [("stdout", "a" * one) for one in some],
        "blanks before a word": [("stdout", " " * one + "x") for one in some],
        "last digit": [("stdout", f"loss 0.31{one % 10}") for one in some],
        "decimals": [("stdout", f"loss 0.{'5' * (one + 1)}") for one in some],
        "zeros in front": [("stdout", f"{1:0{one + 1}d}") for one in some],
        "signs": [("stdout", f"{'-' if bit else ''}5") for bit in bits],
        "which number repeats": [("stdout", f"{at if bit else 7}") for at, bit in enumerate(bits)],
        "bytes as numbers": [("stdout", " ".join(str(chance.randrange(256)) for _ in range(20))) for _ in bits],
        "base64": [("stdout", base64.b64encode(chance.randbytes(15)).decode()) for _ in bits],
        "accents": [("stdout", "".join(chr(0x100 + chance.randrange(256)) for _ in range(40))) for _ in bits],
        "zero width": [("stdout", f"do{chr(0x200B + bit)}ne") for bit in bits],
        "words of the list": [
            ("stdout", " ".join(chance.choices(["loss", "model", "data", "value"], k=8))) for _ in bits
        ],
        "a word a line": [("stdout", chance.choice(["loss", "model", "data", "value"])) for _ in bits],
    }


@pytest.mark.parametrize("how", _choices())
def test_no_choice_tells_more_than_the_ceiling(how):
    """What is seen of a line is compared: hidden numbers tell nothing, and lines that stay neither."""
    account = LineCode(CEILING)
    seen = [account.may_leave(stream, line) for stream, line in _choices()[how]]
    assert account.told_bytes <= CEILING
    told = [line for line in seen if line is not None]
    assert _entropy(told) <= 8 * CEILING


# What left of these lines, as a digest, and the bits that were charged, when the code was first written.
AS_FIRST_WRITTEN = {
    "synonyms": ("5e845d20d53de485", 1372.387065),
    "blank lines": ("b2e5cc36453bac5d", 538.671762),
    "a blank at the end": ("5b04570abb38887b", 542.671762),
    "capitals": ("882986a95b128c7c", 542.923364),
    "which stream": ("8b7aa4f89d4231ca", 531.028695),
    "phrases": ("d7f6892688cf4c31", 1188.542265),
    "length of a bar": ("489b3f2f265465c2", 1588.271507),
    "length of a word": ("6edb5c752b487025", 1385.616483),
    "blanks before a word": ("802cf5d387251e37", 1336.974893),
    "last digit": ("0891f3b04b21a1a4", 846.641962),
    "decimals": ("23852fee2ccdb8c9", 862.101685),
    "zeros in front": ("4fdc682414c03a2f", 1531.197062),
    "signs": ("54ee66f00a128631", 612.910649),
    "which number repeats": ("4544fc8fe4fde3a1", 825.672488),
    "bytes as numbers": ("2c8c4a2655b566b4", 1585.940063),
    "base64": ("3b94c0ab7b1c1f3c", 193.852638),  # since pieces of encodings are told from words
    "accents": ("d790ce7a6292e2a8", 0.0),
    "zero width": ("17783138462da45a", 616.441865),
    "words of the list": ("eff0ebc5257aa626", 4085.557425),
    "a word a line": ("e07aa135b7e2a276", 581.281095),
    "training": ("5176d4eed283a60d", 661.683523),
}


@pytest.mark.parametrize("how", AS_FIRST_WRITTEN)
def test_the_account_decides_as_when_it_was_first_written(how):
    """It has been made faster since; the ledger's readers rely on its being the same."""
    metrics = MetricValues()
    if how == "training":
        account = LineCode(CEILING, metrics=metrics, code=lambda: code_of(TRAINING))
        seen = [account.may_leave("stdout", line) for line in training(metrics)]
    else:
        account = LineCode(CEILING)
        seen = [account.may_leave(stream, line) for stream, line in _choices()[how]]
    digest = hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]
    assert (digest, round(account.told_bits, 6)) == AS_FIRST_WRITTEN[how]


@pytest.mark.parametrize("how", ["synonyms", "blank lines", "capitals", "which stream", "signs", "a word a line"])
def test_choices_between_lines_have_an_eighth_of_the_ceiling(how):
    account = LineCode(CEILING)
    left = [account.may_leave(stream, line) is not None for stream, line in _choices()[how]]
    assert sum(left) < 1.3 * CEILING


def _entropy(lines: list[str]) -> float:
    """Bits that independent lines of these shares tell."""
    counts = {line: lines.count(line) for line in set(lines)}
    return sum(-count * math.log2(count / len(lines)) for count in counts.values() if len(counts) < len(lines))


def test_a_line_that_stays_leaves_no_trace():
    one, other = LineCode(CEILING), LineCode(CEILING)
    for line in training(None):
        one.may_leave("stdout", line)
        other.may_leave("stdout", line)
    secret = "".join(map(chr, range(0x141, 0x200)))
    assert one.may_leave("stdout", secret) is None
    assert one.told_bits == other.told_bits
    assert one.may_leave("stdout", "epoch 3/200: loss 0.5") == other.may_leave("stdout", "epoch 3/200: loss 0.5")


def test_what_may_not_hide_numbers_leaves_whole_or_stays():
    account = LineCode(CEILING, hides=False)
    left = {account.may_leave("param", f"p={number * 7919 % 99991}") for number in range(400)}
    assert None in left
    assert not any(line and "\u2026" in line for line in left)


def test_with_a_ceiling_of_nothing_nothing_leaves():
    assert LineCode(0).may_leave("stdout", "x") is None
