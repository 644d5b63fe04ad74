"""A steward at a terminal with a policy that is not in force yet: schema, diff, test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from insitu.cli import main
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT
from tests.unit.agent.past_world import PastWorld, past_world

Said = Callable[..., tuple[int, str]]
TABLE = {"accuracy": 0.9}


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    monkeypatch.delenv("INSITU_SITE_DIR", raising=False)

    def say(*words: str) -> tuple[int, str]:
        code = main.run(list(words))
        return code, capsys.readouterr().out

    return say


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.fixture
def old(tmp_path: Path) -> str:
    return written(tmp_path, "old.yaml", DEFAULT_POLICY_TEXT)


def new_file(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = DEFAULT_POLICY_TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return written(tmp_path, "new.yaml", text)


def test_the_schema_is_json_whether_asked_for_or_not(say: Said) -> None:
    for words in (("policy", "schema"), ("policy", "schema", "--json")):
        code, out = say(*words)
        assert code == 0
        assert json.loads(out)["properties"]["version"]["description"]


def test_two_policies_are_compared_key_by_key(say: Said, old: str, tmp_path: Path) -> None:
    new = new_file(
        tmp_path, ("digits: 4", "digits: 6"), ("mode: scanned", "mode: held"), ("timeout: 6h", "timeout: 7h")
    )
    code, out = say("policy", "diff", old, new)
    assert code == 0
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [
        ["looser", "sandbox.timeout"],
        ["looser", "release.metrics.digits"],
        ["stricter", "release.logs.mode"],
    ]
    found = json.loads(say("policy", "diff", old, new, "--json")[1])
    assert (found["looser"], found["stricter"], found["neutral"]) == (2, 1, 0)
    assert found["changes"][0] == {
        "key": "sandbox.timeout",
        "before": "6h",
        "after": "7h",
        "direction": "looser",
        "help": "The longest time that one job may ask for.",
    }


def test_one_policy_is_compared_with_the_site_s(say: Said, old: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "policy.yaml").write_text(Path(old).read_text())
    new = new_file(tmp_path, ("digits: 4", "digits: 3"))
    found = json.loads(say("policy", "diff", new, "--dir", str(site), "--json")[1])
    assert [one["key"] for one in found["changes"]] == ["release.metrics.digits"]
    (site / "policy.yaml").write_text("version: x\n")
    found = json.loads(say("policy", "diff", new, "--dir", str(site), "--json")[1])
    assert found["stricter"] == 0
    assert "everything is denied" in found["note"]


def test_a_new_policy_that_is_none_is_an_error(say: Said, old: str, tmp_path: Path) -> None:
    broken = written(tmp_path, "broken.yaml", "version: 1\nsandbx: {}\n")
    code, out = say("policy", "diff", old, broken, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "policy-invalid")
    assert say("policy", "diff", old, old, old)[0] == 2
    assert say("policy", "diff", old, str(tmp_path / "gone.yaml"))[0] == 2


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> PastWorld:
    world = past_world(tmp_path_factory.mktemp("s"))
    world.sent(TABLE)
    world.sent(TABLE, metrics=3)
    world.store.close()
    world.ledger.close()
    return world


def test_the_site_s_past_is_gone_through_without_an_agent(say: Said, past: PastWorld, tmp_path: Path) -> None:
    text = past.folder.policy.read_text()
    new = written(tmp_path, "new.yaml", text.replace("files: {formats: [csv, json]", "files: {formats: [csv]"))
    code, out = say("policy", "test", new, "--dir", str(past.root))
    assert code == 0
    assert "result: released → held" in out
    assert out.splitlines()[-1] == "2 of 2 jobs would have been otherwise"
    code, out = say("policy", "test", new, "--dir", str(past.root), "--last", "1", "--json")
    found = json.loads(out)
    assert (code, found["asked"], found["jobs"][0]["job"]) == (0, 1, "j-2")


def test_what_differs_is_said_below_the_table(say: Said, past: PastWorld, tmp_path: Path) -> None:
    text = past.folder.policy.read_text().replace("who: [alice]", "who: []").replace("max_count: 5000", "max_count: 1")
    _, out = say("policy", "test", written(tmp_path, "new.yaml", text), "--dir", str(past.root))
    assert "runs → refused: datasets.wdbc.who: alice (limit: nobody)" in out
    text = past.folder.policy.read_text().replace("max_count: 5000", "max_count: 1")
    _, out = say("policy", "test", written(tmp_path, "new.yaml", text), "--dir", str(past.root))
    assert "would stay: 2 of 3 metric values (release.metrics.max_count)" in out


@pytest.mark.parametrize(("since", "asked"), [("2030-01-01", 0), ("2020-01-01", 2), ("36500d", 2)])
def test_only_jobs_since_a_day_are_asked_about(say: Said, past: PastWorld, since: str, asked: int) -> None:
    policy = str(past.folder.policy)
    _, out = say("policy", "test", policy, "--since", since, "--dir", str(past.root), "--json")
    assert json.loads(out)["asked"] == asked


def test_a_day_that_is_none_is_an_error(say: Said, past: PastWorld) -> None:
    code, out = say("policy", "test", str(past.folder.policy), "--since", "soon", "--dir", str(past.root), "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "invalid-input")


def test_checking_a_policy_says_what_a_model_may_carry(say: Said, old: str, tmp_path: Path) -> None:
    _, out = say("policy", "check", old)
    assert "256 kB a model in a run envelope, 0 B outside" in out
    without = new_file(tmp_path, ("    ceiling: 256kB", "    ceiling: 0"))
    found: Any = json.loads(say("policy", "check", without, "--json")[1])
    assert any("release.models.ceiling is 0" in warning for warning in found["warnings"])
