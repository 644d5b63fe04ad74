"""`insitu demo`, as a person runs it: the whole story happens, is told as JSON, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 300
STEPS = {"start", "data", "train", "model", "held", "image", "deploy", "predict", "ledger"}


def demo(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "insitu.cli", "demo", "--dir", str(folder), *options]


@pytest.fixture
def folder(tmp_path_factory):
    """Short, since sockets come to lie in it."""
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="story-", dir="/tmp"))
    place.rmdir()
    yield place
    assert not place.exists(), "the demo's folder is still there"
    assert not left_running(place), "something of the demo still runs"
    assert str(place) not in Path("/proc/mounts").read_text(), "something of the demo is still mounted"


def left_running(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


@pytest.mark.parametrize("options", [(), ("--sandbox", "bubblewrap")], ids=["as it chooses", "bubblewrap"])
def test_the_whole_story_happens_and_is_told_as_one_json_object(folder, base_layout, options):
    done = subprocess.run(
        demo(folder, "--json", *options), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["job"]["state"] == "succeeded"
    assert told["held_job"]["state"] == "held"
    assert told["held_job"]["finding"].keys() == {"rule", "measure", "hint"}
    assert "569 rows" in told["held_job"]["finding"]["measure"]
    assert {"auc", "training_log_loss"} <= told["metrics"].keys()
    assert told["model"]["version"] == 1
    assert told["model"]["aliases"] == ["champion"]
    assert told["image"]["digest"].startswith("sha256:")
    assert told["image"]["bytes"] > 0
    assert told["deployment"]["state"] == "healthy"
    assert any(one["predicted"] == one["actual"] for one in told["predictions"])
    assert {"kind", "name", "bytes", "decision", "rule", "entry"} == set.union(*(set(item) for item in told["egress"]))
    assert [item["name"] for item in told["egress"] if item["kind"] == "file"] == ["model (5 files)"]
    assert told["ledger"]["verified"]
    assert told["ledger"]["entries"] == 1 + len(told["egress"]), "the first entry opens the ledger"
    assert told["sandbox"] in {"podman", "docker", "bubblewrap"}
    if options:
        assert told["sandbox"] == "bubblewrap"
    assert told["seconds"].keys() >= STEPS


def test_the_private_data_may_lie_in_a_blob_store_at_an_address_of_its_own(folder, base_layout, azurite):
    """`azurite` is not used: it says that the program is here. The demo starts one of its own, with a key of its own."""
    options = ("--json", "--sandbox", "bubblewrap", "--datastore", "azurite")
    done = subprocess.run(demo(folder, *options), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["job"]["state"] == "succeeded"
    assert told["held_job"]["state"] == "held"
    assert told["datastore"].startswith("az://private at http://127.0.0.1:")
    assert told["datastore"].partition(" at ")[2] != azurite.endpoint
    assert told["ledger"]["verified"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_in_the_middle_leaves_nothing(folder, base_layout, number):
    process = subprocess.Popen(
        # Whoever starts the tests in the background has them, and so this, ignore SIGINT.
        ["env", "--default-signal=INT,TERM", *demo(folder, "--json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stderr is not None
    # The first step is told when hub, registry and agent run.
    assert "dialled out" in process.stderr.readline()
    os.killpg(process.pid, number)  # as a terminal does it: to the whole group
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + number
