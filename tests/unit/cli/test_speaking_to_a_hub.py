"""Commands that speak to a hub, with a hub that is a function: what is shown, asked, signed, and when one detaches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from insitu.cli import following, login, main, run, session
from insitu.cli.output import Output
from insitu.sdk import transport
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.testing.builders import A_BASE, A_DATASET
from insitu.wire.keys import SigningKey

WHEN = "2026-11-23T12:00:00Z"
KEY = SigningKey.generate()
ME = {"name": "alice", "role": "data-scientist", "key": KEY.fingerprint}
SITE = {
    "name": "leeds",
    "link": "online",
    "bases": [{"digest": A_BASE, "python": "3.11", "platform": "x86_64-linux"}],
}
DATASET = {"site": "leeds", "name": "wdbc", "version": 1, "digest": A_DATASET, "rows": "500-999"}
JOB_FILE = """
command: python train.py --data ${{inputs.patients}}
environment: {pylock: pylock.toml}
inputs: {patients: {type: dataset, dataset: wdbc@1}}
outputs: {model: {type: mlflow_model, register: breast-cancer, max_bytes: 2MB}}
metrics: [auc]
tags: {purpose: screening}
"""


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    for name in ("INSITU_HUB_URL", "INSITU_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INSITU_CONFIG", str(tmp_path / "config"))


class Hub:
    """Answers by method and path; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[tuple[str, str], Any] = {
            ("GET", "/api/v1/whoami"): ME,
            ("PUT", "/api/v1/me/key"): ME,
            ("GET", "/api/v1/sites"): {"items": [SITE]},
            ("GET", "/api/v1/datasets"): {"items": [DATASET]},
            ("POST", "/api/v1/jobs"): {"id": "j-1", "name": "job", "state": "queued", "created_at": WHEN},
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        found = self.answers.get(self.asked[-1])
        if found is None:
            return httpx.Response(404, json={"code": "no-such-thing", "what": "there is none", "exit_code": 5})
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Hub:
    asked = Hub()

    @contextmanager
    def open_hub() -> Iterator[Client]:
        login_ = Login(hub="http://hub.test", token="secret")
        with Client(login_, KEY, cache=tmp_path / "cache", carrier=httpx.MockTransport(asked)) as client:
            yield client

    for module in (session, run):
        monkeypatch.setattr(module, "hub", open_hub)
    return asked


@pytest.fixture
def job_file(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n")
    (folder / "pylock.toml").write_text('lock-version = "1.0"\ncreated-by = "uv"\npackages = []\n')
    (folder / "job.yaml").write_text(JOB_FILE)
    return folder / "job.yaml"


def test_a_dry_run_shows_what_may_leave_and_submits_nothing(hub, job_file, capsys):
    assert main.run(["run", str(job_file), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["submitted"]
    assert found["plan"]["may_leave"]["metrics"] == ["auc"]
    assert found["plan"]["may_leave"]["outputs"]["model"]["register"] == "breast-cancer"
    assert found["plan"]["datasets"][0]["digest"] == A_DATASET
    assert found["plan"]["sites"] == ["leeds"]
    assert ("POST", "/api/v1/jobs") not in hub.asked


def test_one_is_told_who_one_is_and_the_fingerprint_that_a_steward_lists(hub, capsys):
    assert main.run(["whoami", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "hub": "http://hub.test",
        "name": ME["name"],
        "role": ME["role"],
        "fingerprint": KEY.public.fingerprint,
    }


def test_a_key_that_the_hub_does_not_know_is_said(hub, capsys):
    hub.answers["GET", "/api/v1/whoami"] = {**ME, "key": ""}
    assert main.run(["whoami"]) == 0
    assert "insitu login" in capsys.readouterr().err


def test_what_may_leave_is_said_before_a_job_is_submitted(hub, job_file, capsys):
    assert main.run(["run", str(job_file)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "j-1\n"
    assert "may leave, if the site's policy lets it" in captured.err
    assert "model (mlflow_model, registered as breast-cancer, at most 2 MB)" in captured.err


def test_a_person_at_a_terminal_who_says_no_submits_nothing(hub, job_file, monkeypatch):
    monkeypatch.setattr(run, "ask_yes", lambda _: False)
    assert main.run(["run", str(job_file)]) == 130
    assert ("POST", "/api/v1/jobs") not in hub.asked


def test_a_change_of_an_input_that_the_file_lacks_is_wrong_input(hub, job_file, capsys):
    assert main.run(["run", str(job_file), "--set", "inputs.pateints=1"]) == 2
    assert "did you mean 'patients'" in capsys.readouterr().err


def test_control_c_while_following_detaches_and_says_how_to_go_on(hub, capsys, monkeypatch):
    hub.answers["GET", "/api/v1/jobs/j-1"] = {"id": "j-1", "name": "job", "state": "running", "created_at": WHEN}
    with session.hub() as client:

        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(client, "follow", interrupted)
        assert following.follow(client, "j-1", Output()) == 130
    err = capsys.readouterr().err
    assert "Detached. j-1 continues." in err
    assert "insitu job logs -f j-1" in err
    assert "insitu job cancel j-1" in err
    assert not any(path.endswith("cancel") for _, path in hub.asked)


def test_lines_of_the_job_are_results_and_the_rest_stands_beside_them(hub, capsys):
    events = [
        ("state", {"state": "running"}),
        ("log", {"stream": "stdout", "text": "epoch 1"}),
        ("metric", {"key": "auc", "value": 0.5, "step": 0}),
    ]
    stream = "".join(
        f"id: {n}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for n, (kind, data) in enumerate(events, 1)
    )
    hub.answers["GET", "/api/v1/jobs/j-1/events"] = httpx.Response(200, text=stream)
    hub.answers["GET", "/api/v1/jobs/j-1"] = {
        "id": "j-1",
        "name": "job",
        "state": "failed",
        "failure": "script",
        "created_at": WHEN,
    }
    with session.hub() as client:
        assert following.follow(client, "j-1", Output()) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("epoch 1\n")
    assert "auc = 0.5" in captured.err
    assert "auc = 0.5" not in captured.out


@pytest.fixture
def login_hub(monkeypatch) -> Hub:
    asked = Hub()

    class Carried(transport.Transport):
        def __init__(self, known: Login, **_: Any) -> None:
            super().__init__(known, carrier=httpx.MockTransport(asked))

    monkeypatch.setattr(login, "Transport", Carried)
    monkeypatch.setattr("insitu.sdk.hub_calls.Transport", Carried)
    return asked


def test_a_login_makes_a_key_and_prints_its_fingerprint_but_never_the_token(login_hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INSITU_TOKEN", "insitu_secret")
    assert main.run(["login", "http://hub.test", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["fingerprint"] == KEY.fingerprint
    assert "insitu_secret" not in captured.out + captured.err
    assert ("PUT", "/api/v1/me/key") in login_hub.asked
    assert (tmp_path / "config" / "key").stat().st_mode & 0o077 == 0


def test_a_wrong_token_replaces_nothing(login_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("INSITU_TOKEN", "wrong")
    refused = httpx.Response(401, json={"code": "unknown-token", "what": "nobody knows it"})
    login_hub.answers["GET", "/api/v1/whoami"] = refused
    assert main.run(["login", "http://hub.test"]) == 4
    assert not (tmp_path / "config").exists()


def test_a_token_comes_from_a_file(login_hub, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    assert main.run(["login", "http://hub.test", "--token-file", str(tmp_path / "token")]) == 0
    assert (tmp_path / "config" / "token").read_text() == "from-file\n"
