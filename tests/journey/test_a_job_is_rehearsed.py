"""A scientist who may not see the data writes a job on made-up data, and hears what the site would say to it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from insitu.cli import main
from insitu.cli.rehearse_text import sentence
from insitu.testing.builders import a_policy_text
from insitu.wire.keys import SigningKey
from tests.rig import World
from tests.services import cache_folder

EXAMPLE = Path(__file__).parents[2] / "examples" / "wdbc" / "job.yaml"
PUBLISH = ["--column", "malignant:categories", "--column", "mean radius:range,quartiles", "--owner", "Leeds General"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scientist's machine: a key of its own, and caches that other tests have filled already."""
    cache = tmp_path / "cache" / "insitu"
    cache.mkdir(parents=True)
    for name, shared in (("base", "base"), ("bases", "bases"), ("locks", "locks"), ("rehearsals", "site-cache")):
        (cache_folder() / shared).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(cache_folder() / shared)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("INSITU_CONFIG", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def alice(world: World, desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logged in at the hub, where the site publishes its policy and something of its data."""
    token = world.clients["admin"].create_token("alice-at-her-desk", "data-scientist").token  # type: ignore[arg-type]
    monkeypatch.setenv("INSITU_HUB_URL", world.url)
    monkeypatch.setenv("INSITU_TOKEN", token)
    return desk


@pytest.fixture
def published(world: World) -> Iterator[None]:
    world.write_policy(version="8", publish_policy="true")
    code = main.run(["data", "publish", "wdbc", *PUBLISH, "--yes", "--json", "--dir", str(world.site.root)])
    assert code == 0
    world.wait_until(lambda: world.alice.dataset("wdbc").owner and world.alice.site("leeds").policy_version == 8)
    yield
    main.run(["data", "publish", "wdbc", "--withdraw", "--yes", "--dir", str(world.site.root)])
    world.write_policy()


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main.run([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert "error" not in told, told
    return code, told


def test_the_example_would_pass_and_it_is_said_what_it_would_spend(
    alice: Path, published: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = run_json(capsys, "run", "--rehearse", str(EXAMPLE), "--sandbox", "bubblewrap")
    assert (code, told["state"], told["passes"]) == (0, "succeeded", True), told
    assert told["policy"] == {"version": 8, "of": "leeds"}
    assert 0 < told["spends"]["size_bytes"] < told["spends"]["limit_bytes"] == 5_000_000
    (model,) = told["outputs"]
    assert (model["output"], model["verdict"]) == ("model", "released")
    assert told["released"]["metric"] == 21
    kept = {one["rule"] for one in told["kept"]}
    assert "not-declared" in kept, "held_out_accuracy is not in the job's file"
    assert "made-up rows" in told["data"][0]["data"]
    assert told["data"][0]["dataset"] == "wdbc@1"
    assert any("run envelopes" in one for one in told["not_checked"])
    assert sentence(told).startswith("this job would pass policy v8 of leeds; it would spend ")
    assert sentence(told).endswith(" of 5 MB")


def test_a_model_that_keeps_rows_would_be_held_with_rule_limit_and_hint(
    alice: Path, published: None, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "--rehearse", str(EXAMPLE), "--set", "inputs.estimator=knn", "--sandbox", "bubblewrap"]
    code, told = run_json(capsys, *argv)
    assert (code, told["state"]) == (3, "held"), told
    (model,) = told["outputs"]
    assert model["verdict"] == "held"
    assert all(model[key] for key in ("rule", "measure", "hint"))


def test_a_script_that_fails_shows_its_own_traceback_here(
    alice: Path, published: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(EXAMPLE.parent, folder)
    (folder / "train.py").write_text("raise RuntimeError('the third column')\n")
    code, told = run_json(capsys, "run", "--rehearse", str(folder / "job.yaml"), "--sandbox", "bubblewrap")
    assert (code, told["state"], told["reason"]["code"]) == (1, "failed", "script-failed")
    assert "RuntimeError: the third column" in told["said"]


def test_without_a_hub_a_policy_file_and_a_file_of_ones_own_will_do(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INSITU_HUB_URL", "INSITU_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    key = SigningKey.generate()
    (desk / "config").mkdir(mode=0o700)
    key.save(desk / "config" / "key")
    folder = desk / "job"
    folder.mkdir()
    (folder / "train.py").write_text("import sys\nprint('read')\n")
    (folder / "requirements.txt").write_text("six==1.17.0\n")
    (folder / "job.yaml").write_text(
        "command: python train.py\nenvironment: {requirements: requirements.txt}\n"
        "inputs: {patients: {type: dataset, dataset: wdbc@3}}\ntags: {purpose: screening}\n"
    )
    with (folder / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["age"], *([at] for at in range(30))])
    policy = desk / "policy.yaml"
    argv = ["run", "--rehearse", str(folder / "job.yaml"), "--policy", str(policy), "--sandbox", "bubblewrap"]
    argv += ["--data", f"patients={folder / 'mine.csv'}"]

    policy.write_text(a_policy_text(key))
    code, told = run_json(capsys, *argv)
    assert (code, told["state"], told["policy"]["version"]) == (0, "succeeded", 7), told
    assert told["data"] == [{"input": "patients", "dataset": "wdbc@3", "data": "yours: mine.csv"}]

    policy.write_text(a_policy_text(key, datasets="{}"))
    code, told = run_json(capsys, *argv)
    assert (code, told["state"], told["reason"]["rule"]) == (3, "refused", "datasets"), told

    policy.write_text(a_policy_text(SigningKey.generate()))
    code, told = run_json(capsys, *argv)
    assert (code, told["state"], told["reason"]["code"]) == (3, "refused", "unknown-signer"), told
