"""A script prints what it reads: plainly, encoded, in an exception, in names. None of it may leave."""

import base64
import datetime as dt
import json
import traceback
from pathlib import Path

import numpy as np
import pytest

from insitu.gate import logs, metrics
from insitu.gate import names as names_module
from insitu.gate.known_data import KnownData
from insitu.gate.logs import LogBudget, LogGate
from insitu.gate.metrics import MetricGate
from insitu.gate.params import ParamGate
from insitu.gate.policy import LogRules, MetricRules, ParamRules, ReleaseRules
from tests.unit.gate.gate_world import KEY, index_of, wdbc

AT = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
CANARIES = {str(value) for value in wdbc().iloc[:40].to_numpy().ravel() if len(str(value)) >= 5}
RULES = ReleaseRules(logs=LogRules(mode="scanned", max_bytes=256_000), errors="type-and-frames")


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> KnownData:
    return KnownData.open(index_of(wdbc(), tmp_path_factory.mktemp("data") / "index"))


def what_leaves(text: str, known: list[KnownData]) -> str:
    log = LogGate(RULES, known, LogBudget(256_000))
    left = [line for each in text.splitlines() for line in log.line(each).released]
    return "\n".join([*left, *log.end()])


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


def chunks(encoded: str) -> str:
    return "\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))


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
    assert what_leaves(text, [known]) == text


def test_metric_names_that_are_rows_stay(known, monkeypatch):
    gate = MetricGate(MetricRules(digits=4, max_count=5000), ["m_*"], [known])
    rows = wdbc().head(40).to_csv(header=False).splitlines()
    names = [f"m_{base64.b32encode(row.encode()).decode()[:90]}" for row in rows]
    names += [f"m_{row[:90]}" for row in rows]
    assert [name for name in names if gate.decide(name, 1.0, 0, AT).leaves] == []
    monkeypatch.setattr(names_module, "objection_to", lambda _: "")
    without = MetricGate(MetricRules(digits=4, max_count=5000, per_second=5000), ["m_*"])
    assert sum(without.decide(name, 1.0, 0, AT).leaves for name in names) == 64  # only their number bounds them then


def test_digits_behind_the_policys_do_not_leave(monkeypatch):
    gate = MetricGate(MetricRules(digits=4, max_count=5000, per_second=5000), ["loss"])
    secret = [int(value * 1000) % 10**6 for value in wdbc()["mean area"]]
    sent = [gate.decide("loss", 0.5 + hidden * 1e-12, step, AT).value for step, hidden in enumerate(secret)]
    assert set(sent) == {0.5}
    monkeypatch.setattr(metrics, "round_significant", lambda value, _: value)
    without = MetricGate(MetricRules(digits=4, max_count=5000, per_second=5000), ["loss"])
    values = [without.decide("loss", 0.5 + hidden * 1e-12, step, AT).value for step, hidden in enumerate(secret)]
    assert [round((value - 0.5) / 1e-12) for value in values] == secret


def test_parameters_that_are_rows_stay(known):
    gate = ParamGate(ParamRules(max_bytes=100_000), [known])
    sent = [
        value
        for number, row in enumerate(wdbc().head(40).to_numpy().tolist())
        for value in (json.dumps(row[:12]), ",".join(map(str, row[:5])))
        if gate.decide(f"p{number}", value).leaves
    ]
    assert sent == []
    assert ParamGate(ParamRules(max_bytes=100_000)).decide("p", json.dumps(wdbc().iloc[0].tolist()[:12])).leaves


def test_the_key_of_the_site_is_in_no_file_of_an_index(tmp_path: Path):
    folder = index_of(wdbc().head(20), tmp_path / "index")
    assert not [path for path in folder.iterdir() if KEY in path.read_bytes()]
