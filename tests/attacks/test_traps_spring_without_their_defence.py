"""What a job left in its outputs does harm where the one check against it is missing.

The traps are those of `test_job_leaves_traps_in_its_outputs.py`; here they are set by the test, and judged in this process,
so that a check can be replaced.
"""

import json
import os
import stat
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from insitu.agent import workspace
from insitu.agent.workspace import Workspace
from insitu.domain.outputs import Decision, OutputType, Verdict
from insitu.gate import files
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.files import Written, read_written
from insitu.testing.builders import a_policy_text
from insitu.wire.keys import SigningKey
from tests.attacks.weakened import started, take_away
from tests.sandbox_rig import Rig, bubblewrap_rig, until
from tests.unit.gate.gate_world import judge_one

FIXTURES = (bubblewrap_rig,)
SECRET = "known only to the site 4711"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "site" / "secret.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"name": SECRET}))
    path.chmod(0o600)
    return path


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """An output in which nothing is wrong yet."""
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "report.json").write_text('{"auc": 0.91}')
    return folder


def judged(result: Path) -> tuple[Decision, str]:
    """The decision, and all that would leave."""
    out = result.with_name("out")
    decision = judge_one(result, None, out, type=OutputType.URI_FOLDER, policy=a_policy_text(SigningKey.generate()))
    return decision, "".join(path.read_text() for path in sorted(out.rglob("*")) if path.is_file())


def read_anything(path: Path, _effort: Effort) -> bytes:
    return path.read_bytes()


def follow_folders(root: Path, _effort: Effort) -> Written:
    found = [Path(at, name) for at, _, names in os.walk(root, followlinks=True) for name in names]
    return Written({path.relative_to(root).as_posix(): path.read_bytes() for path in found})


def test_a_link_to_a_file_of_the_sites_lets_it_out(result: Path, secret: Path, monkeypatch: pytest.MonkeyPatch):
    (result / "link.json").symlink_to(secret)
    monkeypatch.setattr(files, "_read_file", read_anything)
    decision, left = judged(result)
    assert decision.verdict is Verdict.RELEASED
    assert SECRET in left


def test_a_link_to_a_folder_of_the_sites_lets_it_out(result: Path, secret: Path, monkeypatch: pytest.MonkeyPatch):
    (result / "folder").symlink_to(secret.parent)
    monkeypatch.setattr(files, "_read_folder", follow_folders)
    decision, left = judged(result)
    assert decision.verdict is Verdict.RELEASED
    assert SECRET in left


def test_freezing_through_a_link_opens_a_file_of_the_sites(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
):
    space = Workspace(tmp_path / "job")
    space.outputs.mkdir(parents=True)
    (space.outputs / "link.json").symlink_to(secret)
    monkeypatch.setattr(workspace, "stat", SimpleNamespace(S_ISREG=lambda _: True))
    space.freeze()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644


def test_a_file_with_two_names_is_taken(result: Path, monkeypatch: pytest.MonkeyPatch):
    os.link(result / "report.json", result / "twice.json")
    monkeypatch.setattr(files, "_read_file", read_anything)
    assert judged(result)[0].verdict is Verdict.RELEASED


def test_a_pipe_holds_up_whoever_opens_it(result: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(result / "pipe.json")
    monkeypatch.setattr(files, "_read_file", read_anything)
    reading = threading.Thread(target=read_written, args=(result, Effort()), daemon=True)
    reading.start()
    reading.join(0.5)
    assert reading.is_alive()
    with (result / "pipe.json").open("w"):  # until somebody comes to the other end
        pass
    reading.join(10)
    assert not reading.is_alive()


def test_a_file_of_holes_is_read_to_its_end(result: Path, monkeypatch: pytest.MonkeyPatch):
    with (result / "huge.json").open("wb") as stream:
        stream.truncate(50 << 20)
    few = Limits(expansion_bytes=10 << 20)
    with pytest.raises(OutOfEffortError):
        read_written(result, Effort(few))
    monkeypatch.setattr(Effort, "spend_bytes", lambda *_: None)
    assert len(read_written(result, Effort(few)).files["huge.json"]) == 50 << 20


def test_many_files_are_all_read(result: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(300):
        (result / f"{number}.json").write_text("{}")
    few = Limits(members=100)
    with pytest.raises(OutOfEffortError):
        read_written(result, Effort(few))
    monkeypatch.setattr(Effort, "spend_member", lambda *_: None)
    assert len(read_written(result, Effort(few)).files) == 301


def test_a_process_that_is_not_killed_changes_what_was_frozen(bubblewrap_rig: Rig, monkeypatch: pytest.MonkeyPatch):
    code = (
        "import os, time\n"
        "stream = open('report.json', 'w'); stream.write('x' * 10); stream.flush()\n"
        "if os.fork() == 0:\n"
        "    while True: stream.write('y'); stream.flush(); time.sleep(0.005)\n"
    )
    take_away(bubblewrap_rig, monkeypatch, [])
    with started(bubblewrap_rig, code) as running:
        assert running.ends() == "exit 0"
        space = Workspace(running.out.parent)
        space.freeze()
        report = space.frozen / "report.json"
        before = report.stat().st_size
        until(lambda: report.stat().st_size > before, "the file to grow")
