"""`insitu data …`, at the hub and at a site's folder; and what `insitu run --rehearse` says before it runs anything."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from insitu.agent.catalogue import add_dataset
from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.settings import AgentSettings, save_settings
from insitu.cli import data, main, rehearse
from insitu.cli.rehearse_text import describe, sentence
from insitu.gate.channels.hints import describe_kept, read_kept
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.wire.keys import SigningKey

OFFER = {
    "site": "leeds",
    "name": "people",
    "version": 2,
    "digest": "sha256:" + "1" * 64,
    "rows": "100-499",
    "format": "csv",
    "owner": "Leeds General",
    "minimum_rows": 10,
    "columns": [
        {"name": "age", "type": "int64", "sensitivity": "personal", "summary": {"range": [20, 90], "missing": "few"}},
        {"name": "sex", "type": "string", "summary": {"categories": ["f", "m"]}},
    ],
}
JOB = """
command: python train.py
environment: {pylock: pylock.toml}
inputs: {people: {type: dataset, dataset: people@2}}
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "/api/v1/datasets": {"items": [OFFER, {**OFFER, "site": "oslo", "version": 1, "owner": ""}]},
        "/api/v1/datasets/people/croissant": {"@type": "sc:Dataset"},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path)
        if found is None:
            problem = {"code": "policy-not-published", "what": "leeds does not publish its policy", "exit_code": 5}
            return httpx.Response(404, json=problem)
        return httpx.Response(200, json=found)

    @contextmanager
    def open_hub() -> Iterator[Client]:
        login = Login(hub="http://hub.test", token="secret")
        carrier = httpx.MockTransport(answer)
        with Client(login, SigningKey.generate(), cache=tmp_path / "cache", carrier=carrier) as client:
            yield client

    for module in (data, rehearse):
        monkeypatch.setattr(module, "hub", open_hub)
    monkeypatch.delenv("INSITU_SITE_DIR", raising=False)
    monkeypatch.setenv("INSITU_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return answers


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = SiteFolder(tmp_path / "site")
    folder.make()
    save_settings(folder, AgentSettings(site="leeds", hub="http://127.0.0.1:1"))
    (tmp_path / "data").mkdir()
    rows = [f"{20 + at % 60},{'fm'[at % 2]}" for at in range(120)]
    (tmp_path / "data" / "people.csv").write_text("age,sex\n" + "\n".join(rows) + "\n")
    add_datastore(folder, "private", str(tmp_path / "data"))
    add_dataset(folder, "people", datastore="private", pattern="*.csv")
    monkeypatch.setenv("INSITU_SITE_DIR", str(folder.root))
    return folder.root


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main.run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


# -- at the hub --------------------------------------------------------------------------------------------------------


def test_what_a_site_published_is_shown(hub: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["data", "show", "people"]) == 0
    said = capsys.readouterr().out
    for words in ("people@2", "Leeds General", "20 to 90; missing: few", "f, m", "personal", "10 rows or more"):
        assert words in said


def test_a_version_or_site_that_is_named_is_the_one_that_is_shown(
    hub: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_json(capsys, "data", "show", "people@1")[1]["site"] == "oslo"
    assert run_json(capsys, "data", "show", "people", "--site", "oslo")[1]["version"] == 1
    assert run_json(capsys, "data", "show", "people@9")[0] == 5
    assert run_json(capsys, "data", "show", "people@two")[0] == 2


def test_croissant_is_what_the_hub_says(hub: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "data", "show", "people", "--format", "croissant") == (0, {"@type": "sc:Dataset"})


def test_mock_data_go_to_standard_output_or_to_a_file(
    hub: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main.run(["data", "mock", "people", "--rows", "7", "--seed", "3"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 7
    assert all(20 <= int(row["age"]) <= 90 and row["sex"] in "fm" for row in rows)
    file = tmp_path / "mock.csv"
    code, told = run_json(capsys, "data", "mock", "people", "--rows", "7", "--seed", "3", "--out", str(file))
    assert (code, told["rows"], told["seed"], told["format"]) == (0, 7, 3, "csv")
    assert list(csv.DictReader(io.StringIO(file.read_text()))) == rows


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "npy"],
        ["--format", "npy", "--out", "x.npy"],
        ["--format", "images"],
        ["--rows", "0"],
        ["--out", "/nowhere/x"],
    ],
)
def test_mock_data_that_cannot_be_made_are_refused(
    hub: dict[str, Any], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, told = run_json(capsys, "data", "mock", "people", *arguments)
    assert code == 2
    assert told["error"]["code"].startswith("mock-")


# -- at the site -------------------------------------------------------------------------------------------------------


def test_a_publication_is_shown_before_it_is_made(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--column",
        "age:range",
        "--column",
        "sex:categories",
        "--sensitivity",
        "age:personal",
        "--owner",
        "ward",
    ]
    code, shown = run_json(capsys, "data", "publish", "people", *options, "--dry-run")
    assert (code, shown["published"]) == (0, False)
    assert shown["told"]["columns"][1]["summary"]["categories"] == ["f", "m"]
    assert run_json(capsys, "data", "show", "people")[1]["told"]["owner"] == ""
    assert run_json(capsys, "data", "publish", "people", *options, "--yes")[1]["published"]
    told = run_json(capsys, "data", "show", "people")[1]
    assert (told["told"], told["publish_pending"]) == (shown["told"], False)


def test_what_is_said_later_of_one_column_leaves_the_others_alone(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_json(capsys, "data", "publish", "people", "--column", "age:range,missing", "--yes")
    run_json(capsys, "data", "publish", "people@1", "--column", "sex:hidden", "--yes")
    told = run_json(capsys, "data", "show", "people")[1]["told"]
    assert [column["name"] for column in told["columns"]] == ["age"]
    assert told["columns"][0]["summary"]["missing"] == "few"
    run_json(capsys, "data", "publish", "people", "--column", "age:names", "--yes")
    assert run_json(capsys, "data", "show", "people")[1]["told"]["columns"][0]["summary"] is None


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--column", "age:rnge"], "did you mean 'range'?"),
        (["--column", "agee:range"], "did you mean 'age'?"),
        (["--column", "age"], "age:range"),
        (["--column", ":range"], "age:range"),
        (["--sensitivity", "age:secret"], ""),
        (["--minimum-rows", "2"], ""),
    ],
)
def test_what_is_not_right_is_told_and_published_is_nothing(
    site: Path, capsys: pytest.CaptureFixture[str], options: list[str], hint: str
) -> None:
    code, told = run_json(capsys, "data", "publish", "people", *options, "--yes")
    assert code == 2
    assert hint in told["error"].get("hint", "")
    assert not (site / "datasets" / "people" / "1" / "published.json").exists()


def test_adding_data_says_which_names_the_hub_is_not_told(
    site: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "data" / "wards.csv").write_text("/srv/ward/a,age,b,c\n1,2,3,4\n")
    assert main.run(["data", "add", "wards", "--datastore", "private", "--path", "wards.csv"]) == 0
    said = capsys.readouterr().err
    assert "'/srv/ward/a' is told as column-1: it looks like a path" in said
    assert "insitu data publish wards@1" in said
    assert (site / "datasets" / "wards" / "1" / "publish.yaml").read_text().startswith("# What the hub is told about")


# -- rehearsals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def test_without_the_agents_part_it_is_said_what_to_install(
    hub: dict[str, Any], job_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "insitu.agent.rehearsal", None)
    monkeypatch.delattr("insitu.agent.rehearsal", raising=False)
    code, told = run_json(capsys, "run", "--rehearse", str(job_file))
    assert (code, told["error"]["code"]) == (1, "no-agent")
    assert "insitu[agent]" in told["error"]["hint"]


def test_options_of_a_rehearsal_mean_nothing_without_one(job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--seed", "0"], ["--policy", "p.yaml"], ["--data", "a=b"]):
        code, told = run_json(capsys, "run", str(job_file), *option)
        assert (code, told["error"]["code"]) == (2, "usage")
        assert "--rehearse" in told["error"]["hint"]


@pytest.mark.parametrize("given", ["people", "peple=x.csv", "people=/nowhere/x.csv"])
def test_a_file_that_stands_in_for_nothing_is_refused(
    hub: dict[str, Any], job_file: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    code, told = run_json(capsys, "run", "--rehearse", str(job_file), "--data", given)
    assert (code, told["error"]["code"]) == (2, "rehearse-data")


def test_a_rehearsal_is_told_in_a_sentence_and_by_rule_measure_limit_and_hint() -> None:
    told: dict[str, Any] = {
        "state": "held",
        "policy": {"version": 7, "of": "leeds"},
        "spends": {"size_bytes": 41_000, "limit_bytes": 5_000_000},
        "reason": {},
        "data": [{"input": "people", "dataset": "people@2", "data": "100 made-up rows, seed 0"}],
        "outputs": [
            {
                "output": "model", "verdict": "held", "rule": "stored-rows", "measure": "a model of neighbours",
                "limit": "none", "hint": "choose another", "findings": [], "size_bytes": 0,
            }
        ],
        "released": {"metric": 21},
        "kept": [vars(read_kept(describe_kept("metric", "not-declared", 10)))],
        "said": "",
        "not_checked": ["run envelopes"],
    }  # fmt: skip
    assert sentence(told) == "this job would be held by policy v7 of leeds; it would spend 41 kB of 5 MB"
    said = io.StringIO()
    from rich.console import Console

    Console(file=said, width=200).print(*describe(told), sep="\n")
    for words in ("stored-rows: a model of neighbours (limit: none)", "choose another", "21 × metric", "not-declared"):
        assert words in said.getvalue()


@pytest.mark.parametrize("rule", ["not-declared", "log-mode", "metric-count", "made-up-rule"])
def test_a_line_about_what_was_kept_reads_back_in_parts(rule: str) -> None:
    found = read_kept(describe_kept("log line", rule, 100))
    assert found is not None
    assert (found.kind, found.rule, found.at_least) == ("log line", rule, 100)
    assert read_kept("anything else") is None
