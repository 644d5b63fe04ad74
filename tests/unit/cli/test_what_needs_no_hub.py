"""Commands that work on files alone: policy, ledger, schema, rows to predict."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime

import pytest

from insitu.cli import main
from insitu.cli.predict import read_rows
from insitu.domain.errors import InvalidInputError
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT
from insitu.wire.ledger import GENESIS, LedgerEntry


@pytest.fixture(autouse=True)
def no_site_is_named(monkeypatch):
    monkeypatch.delenv("INSITU_SITE_DIR", raising=False)


def run_json(capsys, *arguments: str):
    code = main.run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


# -- policy ------------------------------------------------------------------------------------------------------------


def test_the_policy_that_init_writes_is_good_and_says_that_nothing_runs(capsys, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_TEXT)
    code, found = run_json(capsys, "policy", "check", str(file))
    assert code == 0
    assert found["ok"]
    assert any("nobody's job runs" in warning for warning in found["warnings"])


def test_a_policy_with_an_unknown_key_is_refused_with_the_key_that_was_meant(capsys, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_TEXT.replace("sandbox:", "sandbx:"))
    code, found = run_json(capsys, "policy", "check", str(file))
    assert code == 2
    assert "did you mean sandbox?" in found["error"]["hint"]


def test_a_site_that_is_not_named_is_asked_for(capsys):
    code, found = run_json(capsys, "policy", "show")
    assert code == 2
    assert found["error"]["code"] == "no-site-dir"


def test_a_folder_that_is_no_sites_is_not_found(capsys, tmp_path):
    code, found = run_json(capsys, "data", "list", "--dir", str(tmp_path))
    assert code == 5
    assert found["error"]["code"] == "no-site-folder"


# -- ledger ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    path, prev = tmp_path / "ledger.jsonl", GENESIS
    with path.open("wb") as stream:
        for seq in range(3):
            entry = LedgerEntry(seq=seq, at=datetime.now(UTC), kind="file", size_bytes=seq, prev=prev)
            stream.write(entry.as_line())
            prev = entry.hash
    return path


def test_a_ledger_is_verified_from_its_file_alone(capsys, ledger):
    code, found = run_json(capsys, "ledger", "verify", str(ledger))
    assert code == 0
    assert (found["verified"], found["entries"]) == (True, 3)


def test_a_ledger_in_which_one_byte_was_changed_is_told_with_the_entry(capsys, ledger):
    ledger.write_bytes(ledger.read_bytes().replace(b'"size_bytes":1', b'"size_bytes":9'))
    code, found = run_json(capsys, "ledger", "verify", str(ledger))
    assert code == 1
    assert found["error"]["code"] == "ledger-broken"
    assert "2" in found["error"]["what"]


def test_a_ledger_that_is_not_there_is_not_found(capsys, tmp_path):
    code, _ = run_json(capsys, "ledger", "verify", str(tmp_path / "none"))
    assert code == 5


# -- job files ---------------------------------------------------------------------------------------------------------


def test_the_schema_of_a_job_file_is_json(capsys):
    assert main.run(["job", "schema"]) == 0
    assert "command" in json.loads(capsys.readouterr().out)["properties"]


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "sent"),
    [
        ([[1, 2], [3, 4]], {"inputs": [[1, 2], [3, 4]]}),
        ([{"a": 1}], {"dataframe_records": [{"a": 1}]}),
        ({"dataframe_split": {"data": []}}, {"dataframe_split": {"data": []}}),
        ({"instances": [1]}, {"instances": [1]}),
    ],
)
def test_rows_in_json_are_sent_in_a_form_that_mlflow_knows(tmp_path, document, sent):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(document))
    body, kind = read_rows(file)
    assert (json.loads(body), kind) == (sent, "application/json")


def test_a_table_is_sent_as_it_is(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n")
    assert read_rows(file) == (b"a,b\n1,2\n", "text/csv")


@pytest.mark.parametrize(("raw", "kind"), [(b"[[1]]", "application/json"), (b"a,b\n1,2\n", "text/csv")])
def test_stdin_may_be_either(monkeypatch, tmp_path, raw, kind):
    from pathlib import Path

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert read_rows(Path("-"))[1] == kind


@pytest.mark.parametrize("text", ["{", '{"rows": []}', "7"])
def test_what_is_no_rows_is_wrong_input(tmp_path, text):
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(InvalidInputError) as raised:
        read_rows(file)
    assert raised.value.hint
