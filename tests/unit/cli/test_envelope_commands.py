"""From a job and a few options to a signed run envelope; each option widens one thing, and what is no option says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.console import Console
from insitu.agent.settings import AgentSettings, save_settings
from insitu.cli import main
from insitu.cli.envelope_draft import Wider, widen
from insitu.domain.digests import digest_of
from insitu.domain.errors import InvalidInputError
from insitu.sdk.config import UserFolders, load_or_make_key
from insitu.sdk.snapshot import snapshot
from insitu.testing.builders import A_LOCK, NOON, a_job_document, a_run_envelope
from insitu.wire.keys import SigningKey
from insitu.wire.run_envelopes import Between, OneOf, RunEnvelopeDocument
from tests.unit.agent.review_world import ReviewWorld

ALICE, BOB, SITE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
TERMS = {"signers": {"alice": ALICE.fingerprint, "bob": BOB.fingerprint}, "now": NOON.isoformat()}
INPUTS = {"patients": {"type": "dataset", "dataset": "wdbc@1"}, "C": 1.0, "kind": "ridge"}
Run = Callable[..., tuple[int, Any]]


def widened(**options: Any) -> RunEnvelopeDocument:
    return widen(a_run_envelope(SITE, ALICE, document=a_job_document(inputs=INPUTS)), Wider(**options), TERMS)


# -- options -----------------------------------------------------------------------------------------------------------


def test_without_an_option_nothing_is_widened() -> None:
    start = a_run_envelope(SITE, ALICE, document=a_job_document(inputs=INPUTS))
    assert widen(start, Wider(), TERMS) == start
    assert start.params == {"C": OneOf(values=[1.0]), "kind": OneOf(values=["ridge"])}


@pytest.mark.parametrize(
    ("text", "name", "allowed"),
    [
        ("C=0.1..10", "C", Between(at_least=0.1, at_most=10)),
        ("C=-1e3..1e3", "C", Between(at_least=-1000, at_most=1000)),
        ("C=5", "C", OneOf(values=[5])),
        ("kind=ridge,lasso", "kind", OneOf(values=["ridge", "lasso"])),
        ('kind="1"', "kind", OneOf(values=["1"])),
        ("kind=true", "kind", OneOf(values=[True])),
        ("kind=a..b", "kind", OneOf(values=["a..b"])),
    ],
)
def test_a_parameter_is_a_range_or_a_list(text: str, name: str, allowed: OneOf | Between) -> None:
    changed = widened(params=(text,))
    assert changed.params[name] == allowed
    assert {key: one for key, one in changed.params.items() if key != name} == {
        key: one for key, one in widened().params.items() if key != name
    }


@pytest.mark.parametrize(
    "options",
    [
        {"params": ("C",)},
        {"params": ("D=1",)},
        {"params": ("patients=wdbc",)},
        {"params": ("C=10..1",)},
        {"params": ("C=1..e",)},
        {"params": ("C=.nan",)},
        {"params": ("C=",)},
        {"params": ("C=[1",)},
        {"who": ("eve",)},
        {"who": (",",)},
        {"runs": 0},
        {"runs": 1_000_000},
        {"until": "soon"},
        {"until": "2027-02-30"},
        {"locks": ("sha1:x",)},
    ],
)
def test_what_is_no_option_is_an_error_and_never_a_guess(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        widened(**options)


def test_people_packages_versions_runs_and_days_are_as_said() -> None:
    changed = widened(who=("alice,bob",), locks=("any",), any_version=True, runs=7, until="2027-03-31", title="search")
    assert set(changed.who) == {"alice", "bob"}
    assert (changed.locks, changed.runs, changed.title) == ("any", 7, "search")
    assert changed.datasets["patients"].versions == "any"
    assert changed.expires_at == datetime(2027, 3, 31, 23, 59, 59, tzinfo=UTC)
    assert (widened(until="90d").expires_at - NOON).days == 90


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    world = ReviewWorld(tmp_path_factory.mktemp("s") / "site")
    save_settings(world.folder, AgentSettings(site="leeds", hub="http://127.0.0.1:1"))
    SigningKey.generate().save(world.folder.key)
    console = Console(world.folder.console, world.steward)
    yield world
    console.close()


@pytest.fixture
def run(world: ReviewWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as jo, or as whoever's configuration folder is named."""
    monkeypatch.setenv("INSITU_SITE_DIR", str(world.root))
    world.jo = _key(tmp_path / "jo")
    world.bo = _key(tmp_path / "bo")
    world.write_policy()

    def run(*words: str, who: str = "jo") -> tuple[int, Any]:
        monkeypatch.setenv("INSITU_CONFIG", str(tmp_path / who))
        code = main.run(["envelope", *words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def _key(folder: Path) -> SigningKey:
    return load_or_make_key(UserFolders.from_environment({"INSITU_CONFIG": str(folder), "HOME": str(folder)}))


def test_a_dry_run_shows_what_it_would_allow_and_signs_nothing(world: ReviewWorld, run: Run) -> None:
    attempt = world.attempt(inputs=INPUTS)
    code, found = run("create", "--job", attempt.row.job_id, "--param", "C=0.1..10", "--dry-run")
    assert (code, found["signed"]) == (0, False)
    assert found["allows"]["params"]["C"] == {"at_least": 0.1, "at_most": 10.0}
    assert found["allows"]["locks"] == [A_LOCK]
    assert run("list") == (0, [])


def test_where_two_are_needed_the_second_signs_the_same_document(world: ReviewWorld, run: Run) -> None:
    world.write_policy(needed=2)
    attempt = world.attempt()
    _, made = run("create", "--job", attempt.row.job_id)
    assert (made["state"], made["signed_by"], made["needed"]) == ("unsigned", ["jo"], 2)
    _, signed = run("sign", made["id"][:20], who="bo")
    assert (signed["id"], signed["state"], signed["signed_by"]) == (made["id"], "in force", ["bo", "jo"])
    assert [one["id"] for one in run("list")[1]] == [made["id"]]


def test_a_stranger_s_signature_is_refused(world: ReviewWorld, run: Run) -> None:
    attempt = world.attempt()
    code, found = run("create", "--job", attempt.row.job_id, who="stranger")
    assert (code, found["error"]["code"]) == (3, "unknown-reviewer")
    assert run("list") == (0, [])


def test_it_can_be_made_from_a_job_file_that_never_ran(world: ReviewWorld, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.py").write_text("pass\n")
    (folder / "requirements.txt").write_text("six\n")
    path = folder / "job.yaml"
    path.write_text(
        "command: python train.py ${{inputs.C}}\nenvironment: {requirements: requirements.txt}\n"
        "inputs: {C: 1.0, patients: {type: dataset, dataset: wdbc}}\nmetrics: [auc]\n"
    )
    code, found = run("create", "--job", str(path), "--who", "alice")
    assert (code, found["error"]["code"]) == (2, "no-lock")
    code, found = run("create", "--job", str(path), "--lock", "any")
    assert (code, found["error"]["code"]) == (2, "envelope-who")
    code, made = run("create", "--job", str(path), "--who", "alice", "--lock", "any", "--param", "C=1..2")
    assert (code, made["state"]) == (0, "in force")
    assert made["allows"]["code"] == digest_of(snapshot(folder, without=path))
    assert made["allows"]["datasets"] == {"patients": {"name": "wdbc", "versions": "any"}}


def test_a_job_that_the_site_never_had_is_not_found(run: Run) -> None:
    code, found = run("create", "--job", "j-nothing")
    assert (code, found["error"]["code"]) == (5, "no-job")


def test_showing_one_says_why_a_job_is_outside(world: ReviewWorld, run: Run) -> None:
    inside, outside = world.attempt(inputs=INPUTS), world.attempt(inputs={**INPUTS, "C": 30})
    _, made = run("create", "--job", inside.row.job_id, "--param", "C=0.1..10")
    assert run("show", made["id"], "--job", inside.row.job_id)[1]["job"]["outside"] == []
    assert run("show", made["id"], "--job", outside.row.job_id)[1]["job"]["outside"] == ["C = 30, allowed 0.1 to 10"]


def test_a_revocation_says_why_and_is_kept(world: ReviewWorld, run: Run) -> None:
    _, made = run("create", "--job", world.attempt().row.job_id)
    assert run("revoke", made["id"], "--reason", "  ")[0] == 2
    _, revoked = run("revoke", made["id"], "--reason", "a fault in the code")
    assert (revoked["state"], revoked["reason"]) == ("revoked", "a fault in the code")
    assert run("revoke", made["id"], "--reason", "again")[1]["error"]["code"] == "revoked"
    (listed,) = run("list")[1]
    assert listed["state"] == "revoked"
