"""What a job says bit by bit: cells of rows, columns, names; and honest numbers among the data."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from insitu.gate.channels.cells import phrases_of_frame, read_text, rounded_number
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.logs import LogBudget, LogGate
from insitu.gate.known.data import KnownData
from insitu.gate.policy.loading import LogRules, ReleaseRules
from tests.unit.gate.gate_world import known_of, wdbc


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> KnownData:
    random = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "name": [f"Given{n % 40} Family{n}" for n in range(2000)],
            "city": ["Leeds", "Turin", "Ghent", "Lyon"] * 500,
            "age": random.integers(18, 95, 2000),
            "weight": np.round(random.normal(70, 12, 2000), 3),
            "level": np.round(random.random(2000), 6),
        }
    )
    return known_of(table, tmp_path_factory.mktemp("people") / "index")


def said(evidence: LiveEvidence, values) -> int:
    """How many of `values` may be said before the first that may not."""
    for count, value in enumerate(values):
        if evidence.of_number(rounded_number(float(value), 4)):
            return count
    return len(values)


def curves(seed: int) -> np.ndarray:
    """Six honest metrics over two hundred epochs."""
    random, epochs = np.random.default_rng(seed), np.arange(1, 201)
    falling = [2 * np.exp(-epochs / random.uniform(10, 80)) + random.normal(0, 0.01, 200) for _ in range(3)]
    rising = [1 - np.exp(-epochs / random.uniform(10, 80)) / 2 + random.normal(0, 0.004, 200) for _ in range(3)]
    return np.stack([*falling, *rising], axis=1).ravel()


@pytest.mark.parametrize("seed", range(6))
def test_honest_metrics_may_all_be_said(wdbc_known, people, seed):
    assert said(LiveEvidence([wdbc_known, people]), curves(seed)) == 1200


def test_cells_of_one_row_are_seen_after_three_or_four(wdbc_known):
    assert said(LiveEvidence([wdbc_known]), wdbc().iloc[3]) <= 4


def test_with_honest_values_between_them_it_takes_more(wdbc_known):
    honest = curves(1)
    mixed = [value for at, cell in enumerate(wdbc().iloc[3]) for value in (*honest[4 * at : 4 * at + 4], cell)]
    assert 10 < said(LiveEvidence([wdbc_known]), mixed) < 60


def test_a_column_from_top_to_bottom_is_seen(wdbc_known):
    assert said(LiveEvidence([wdbc_known]), wdbc()["mean area"]) < 60
    assert said(LiveEvidence([wdbc_known]), wdbc()["area error"]) < 20


def test_cells_in_a_secret_order_are_seen(wdbc_known):
    cells = wdbc().iloc[:60].to_numpy().ravel()
    assert said(LiveEvidence([wdbc_known]), np.random.default_rng(5).permutation(cells)) < 80


def test_what_was_not_said_does_not_count(wdbc_known):
    evidence = LiveEvidence([wdbc_known])
    row = list(wdbc().iloc[3])
    at = said(evidence, row)
    assert all(evidence.of_number(rounded_number(float(row[at]), 4)) for _ in range(20))
    assert not evidence.of_text("loss 0.51 after 12 epochs")


def test_a_value_that_is_said_again_is_nothing_new(wdbc_known):
    assert said(LiveEvidence([wdbc_known]), [17.99] * 500) == 500


def test_a_name_that_one_row_has_is_too_much(people):
    evidence = LiveEvidence([people])
    assert evidence.of_text("the patient Given7 Family47 is ill") == "rows"
    assert evidence.of_text("given7  FAMILY47") == "rows"
    assert not evidence.of_text("patients from Leeds, Turin, Ghent and Lyon")


def test_lines_together_are_answered_as_one_by_one(wdbc_known, people):
    lines = [f"{name} {value}" for name, value in wdbc().iloc[3].items()] + ["Given7 Family47", "epoch 3 loss 0.25"]
    one_by_one = LiveEvidence([wdbc_known, people])
    assert LiveEvidence([wdbc_known, people]).of_texts(lines) == [one_by_one.of_text(line) for line in lines]


def test_long_talk_is_forgotten_from_its_beginning(wdbc_known):
    evidence = LiveEvidence([wdbc_known])
    random = np.random.default_rng(0)
    said(evidence, random.random(4000))
    assert said(evidence, wdbc().iloc[3]) <= 6


def test_numbers_are_read_as_precisely_as_they_were_printed():
    numbers = read_text("a 17.990 b=-3 c 1.20e+03, v1.2.3", phrases=False).numbers
    assert [(number.value, number.half, number.unit) for number in numbers] == [
        (17.99, 0.5 * 10.0**-3, 10.0**-2),
        (-3.0, pytest.approx(4e-9), 1.0),
        (1200.0, 5.0, 100.0),
    ]


def test_words_and_runs_of_words_are_phrases_and_numbers_go_with_one_word():
    said = read_text("Ada Lovelace 36.5 from Leeds 12 ward B7, born 1815-12-10", phrases=True)
    assert {"Ada", "Lovelace", "Ada Lovelace", "from Leeds"} <= phrases_of_frame(said.frame)
    assert {"B7", "ward B7", "12 ward B7"} <= said.phrases
    assert {"Leeds 12", "12 ward", "1815-12-10", "born 1815-12-10"} <= said.pairs
    assert not any("36.5" in phrase for phrase in said.phrases)


def test_names_and_numbers_that_are_said_backwards_are_seen(people):
    log = LogGate(ReleaseRules(logs=LogRules(mode="scanned", max_bytes=900)), LiveEvidence([people]), LogBudget(900))
    outcomes = log.lines(["an ordinary line", "the 74ylimaF 7neviG row"], datetime(2026, 11, 23, tzinfo=UTC))
    assert [outcome.held_by for outcome in outcomes] == [None, "rows-in-line"]


def test_without_datasets_everything_may_be_said():
    assert LiveEvidence([]).of_texts(["17.99 10.38 122.8 1001.0"]) == [""]
