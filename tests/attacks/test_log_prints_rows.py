"""A script prints what it reads: plainly, encoded, in an exception, in names. None of it may leave."""

import base64
import datetime as dt
import json
import traceback
from pathlib import Path

import numpy as np
import pytest

from insitu.gate.channels import logs, metric_names, metrics, word_price
from insitu.gate.channels import names as names_module
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.logs import LogBudget, LogGate
from insitu.gate.channels.metric_names import MetricNames
from insitu.gate.channels.metrics import MetricGate
from insitu.gate.channels.params import ParamGate
from insitu.gate.known.data import KnownData
from insitu.gate.policy.loading import LogRules, MetricRules, ParamRules, ReleaseRules
from tests.unit.gate.gate_world import KEY, index_of, wdbc

AT = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
CANARIES = {str(value) for value in wdbc().iloc[:40].to_numpy().ravel() if len(str(value)) >= 5}
WIDE = 10_000_000  # so that it is the watch on rows that stops what is stopped
LINES = LogRules.model_validate({"mode": "scanned", "max_bytes": 256_000, "ceiling": WIDE})
RULES = ReleaseRules(logs=LINES, errors="type-and-frames")
TEXTS = ParamRules.model_validate({"max_bytes": 100_000, "ceiling": WIDE})


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> KnownData:
    return KnownData.open(index_of(wdbc(), tmp_path_factory.mktemp("data") / "index"))


def what_leaves(text: str, known: list[KnownData]) -> str:
    log = LogGate(RULES, LiveEvidence(known), LogBudget(256_000))
    left = [line for outcome in log.lines(text.splitlines(), AT) for line in outcome.released]
    return "\n".join([*left, *log.end()])


def metric_gate(name: str, known: list[KnownData], *, per_second: int = 5000) -> MetricGate:
    evidence = LiveEvidence(known)
    rules = MetricRules(digits=4, max_count=5000, per_second=per_second)
    return MetricGate(rules, MetricNames([name], evidence, most=rules.max_names), evidence)


def canaries_in(text: str) -> set[str]:
    return {value for value in CANARIES if value in text}


def rows_with_three_canaries(text: str) -> int:
    """The attacker's own decoder: rows of which three cells or more can be read in what left."""
    return sum(
        sum(str(value) in text for value in row if len(str(value)) >= 5) >= 3 for row in wdbc().iloc[:40].to_numpy()
    )


def in_an_exception() -> str:
    try:
        raise ValueError(f"bad rows:\n{wdbc().head(40).to_string()}")
    except ValueError:
        return traceback.format_exc()


def by_pandas() -> str:
    return wdbc().iloc[:40, :8].to_string()


def chunks(encoded: str, size: int = 76) -> str:
    return "\n".join(encoded[at : at + size] for at in range(0, len(encoded), size))


PRINTED = {
    "df.head()": by_pandas,
    "csv": lambda: wdbc().head(40).to_csv(),
    "json lines": lambda: wdbc().head(40).to_json(orient="records", lines=True),
    "lists": lambda: "\n".join(str(row) for row in wdbc().head(40).to_numpy().tolist()),
    "numpy": lambda: np.array2string(
        wdbc().head(40).to_numpy(), formatter={"float_kind": str}, max_line_width=3000, threshold=10**6
    ),
    "repr of dictionaries": lambda: "\n".join(str(row) for row in wdbc().head(40).to_dict("records")),
    "one long line": lambda: " ".join(str(value) for value in wdbc().head(40).to_numpy().ravel()),
}


@pytest.mark.parametrize("form", PRINTED)
def test_printed_rows_stay(known, form):
    text = PRINTED[form]()
    assert rows_with_three_canaries(what_leaves(text, [known])) == 0
    assert rows_with_three_canaries(what_leaves(text, [])) > 20 or form == "one long line"


def test_a_row_in_an_exception_stays(known):
    text = in_an_exception()
    assert canaries_in(what_leaves(text, [known])) == set()
    assert canaries_in(what_leaves(text, [])) == set()  # by its form alone, without knowing the data
    assert canaries_in(text)


@pytest.mark.parametrize(
    "encode",
    [
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.urlsafe_b64encode(data).decode(),
        lambda data: base64.b32encode(data).decode(),
        lambda data: base64.b16encode(data).decode(),
        lambda data: data.hex(),
        lambda data: str(int.from_bytes(data, "big")),
    ],
    ids=["base64", "urlsafe", "base32", "base16", "hex", "digits"],
)
def test_encoded_rows_stay(known, monkeypatch, encode):
    text = chunks(encode(wdbc().head(10).to_csv(header=False).encode()[:1500]))
    assert len(what_leaves(text, [known])) < 80  # at most the short last line
    monkeypatch.setattr(logs, "encoded_run", lambda _: False)
    monkeypatch.setattr(logs.Disguise, "is_worn_by", lambda *_: False)
    monkeypatch.setattr(word_price, "odds_of", lambda *_: 0.0)
    assert len(what_leaves(text, [])) > 400  # of long numbers the first digits, of all else everything


def test_metric_names_that_are_rows_stay(known, monkeypatch):
    gate = metric_gate("m_*", [known])
    rows = wdbc().head(40).to_csv(header=False).splitlines()
    names = [f"m_{base64.b32encode(row.encode()).decode()[:90]}" for row in rows]
    names += [f"m_{row[:90]}" for row in rows]
    pieces = [piece for row in rows for piece in chunks(base64.b32encode(row.encode()).decode().rstrip("="), 8).split()]
    names += [f"m_{piece}" for piece in pieces if len(piece) > 2]
    assert [name for name in names if gate.decide(name, 1.0, 0, AT).leaves] == []
    for module in (names_module, metric_names):
        monkeypatch.setattr(module, "objection_to", lambda _: "")
    monkeypatch.setattr(MetricNames, "_objection_to_words", lambda *_: "")
    without = metric_gate("m_*", [])
    assert (
        sum(without.decide(name, 1.0, 0, AT).leaves for name in set(names)) == 100
    )  # only their number bounds them then


def test_digits_behind_the_policys_do_not_leave(monkeypatch):
    gate = metric_gate("loss", [])
    secret = [int(value * 1000) % 10**6 for value in wdbc()["mean area"]]
    sent = [gate.decide("loss", 0.5 + hidden * 1e-12, step, AT).value for step, hidden in enumerate(secret)]
    assert set(sent) == {0.5}
    monkeypatch.setattr(metrics, "round_significant", lambda value, _: value)
    without = metric_gate("loss", [])
    values = [without.decide("loss", 0.5 + hidden * 1e-12, step, AT).value for step, hidden in enumerate(secret)]
    assert [round((value - 0.5) / 1e-12) for value in values] == secret


CELLS = wdbc().iloc[:60, :20].to_numpy()
ORDERS = {
    "row by row": CELLS.ravel(),
    "column by column": CELLS.T.ravel(),
    "in an order that only the receiver knows": np.random.default_rng(7).permutation(CELLS.ravel()),
    "one cell among two other numbers": np.insert(CELLS.ravel().astype(float), range(CELLS.size), 0.5).ravel(),
}


def sent_as_metrics(values: np.ndarray, known: list[KnownData]) -> list[float]:
    gate = metric_gate("loss", known)
    outcomes = [gate.decide("loss", float(value), step, AT) for step, value in enumerate(values)]
    return [outcome.value for outcome in outcomes if outcome.leaves]


@pytest.mark.parametrize("order", ORDERS)
def test_rows_in_the_values_of_metrics_stay_in_whatever_order(known, order):
    assert len(sent_as_metrics(ORDERS[order], [known])) < 90
    assert len(sent_as_metrics(ORDERS[order], [])) >= len(ORDERS[order])


def test_rows_that_take_turns_between_channels_stay(known):
    evidence = LiveEvidence([known])
    rules = MetricRules(digits=4, max_count=5000)
    values = MetricGate(rules, MetricNames(["loss"], evidence, most=1), evidence)
    words = ParamGate(TEXTS, evidence)
    lines = LogGate(RULES, evidence, LogBudget(256_000))
    sent = 0
    for at, value in enumerate(CELLS[:20].ravel()):
        if at % 3 == 0:
            sent += values.decide("loss", float(value), at // 3, AT).leaves
        elif at % 3 == 1:
            sent += words.decide(f"p{at % 7}", str(value)).leaves
        else:
            sent += bool(lines.lines([f"now {value}"], AT)[0].released)
    assert sent < 60  # of four hundred, and of no row more than the few that chance explains


def test_digits_hidden_in_printed_numbers_do_not_leave(known):
    text = "\n".join(f"loss {0.5 + index * 1e-12:.15f}" for index in range(100))
    assert set(what_leaves(text, [known]).splitlines()) == {"loss 0.5000"}


def test_a_type_or_function_named_after_a_row_stays(known):
    text = (
        'Traceback (most recent call last):\n  File "/job/code/train.py", line 3, in f17_99_10_38\n'
        "__main__.Row_17_99_10_38_122_8Error: x"
    )
    log = LogGate(RULES, LiveEvidence([known]), LogBudget(256_000), code=lambda: CodeWords({"train.py": 9}))
    assert "17" not in "".join(line for outcome in log.lines(text.splitlines(), AT) for line in outcome.released)


def test_parameters_that_are_rows_stay(known):
    gate = ParamGate(TEXTS, LiveEvidence([known]))
    sent = [
        value
        for number, row in enumerate(wdbc().head(40).to_numpy().tolist())
        for value in (json.dumps(row[:12]), ",".join(map(str, row[:5])))
        if gate.decide(f"p{number}", value).leaves
    ]
    assert sent == []
    blind = ParamGate(TEXTS, LiveEvidence([]))
    assert blind.decide("p", json.dumps(wdbc().iloc[0].tolist()[:12])).leaves


def test_the_key_of_the_site_is_in_no_file_of_an_index(tmp_path: Path):
    folder = index_of(wdbc().head(20), tmp_path / "index")
    assert not [path for path in folder.iterdir() if KEY in path.read_bytes()]
