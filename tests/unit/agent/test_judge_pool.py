"""A judge that waits: confined like any other, asked once, replaced when it is gone."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.agent.folder import SiteFolder
from insitu.agent.judge_pool import JudgePool
from insitu.agent.settings import AgentSettings
from insitu.agent.workspace import Workspace
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract
from insitu.gate.judgement import Candidate, JudgeRequest
from insitu.gate.policy.default import DEFAULT_POLICY_TEXT

UID = AgentSettings(site="leeds", hub="http://127.0.0.1:1").gate_gid
PATIENCE_S = 60.0


@pytest.fixture
def request_(tmp_path: Path) -> JudgeRequest:
    """One table, where the gate's user can read it."""
    site = SiteFolder(tmp_path)
    site.make(gate_gid=UID if os.geteuid() == 0 else None)
    space = Workspace(site.jobs / "j-1")
    space.out.mkdir(parents=True)
    space.make(gate_uid=UID)
    folder = space.frozen / "result"
    folder.mkdir(parents=True)
    (folder / "table.json").write_text("[1, 2, 3]")
    for path in (space.frozen, folder, folder / "table.json"):
        path.chmod(0o755)
    space.make_out(UID)
    kind = OutputType("uri_folder")
    return JudgeRequest(
        policy=DEFAULT_POLICY_TEXT,
        contract=ReleaseContract(outputs=(OutputContract("result", kind),)),
        candidates=(Candidate("result", kind, folder),),
        index_dirs=(),
        lock_packages=(),
        out_dir=space.out,
    )


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[JudgePool]:
    made = JudgePool(tmp_path, uid=UID, size=1)
    made.fill()
    yield made
    made.close()


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def when_confined(pid: int) -> dict[str, str]:
    """What the kernel says of it once it runs the judge."""
    end = time.monotonic() + PATIENCE_S
    program = b"-P\0-m\0insitu.gate.judge\0"
    while Path(f"/proc/{pid}/cmdline").read_bytes().removeprefix(sys.executable.encode() + b"\0") != program:
        assert time.monotonic() < end
        os.sched_yield()
    return status(pid)


def test_a_judge_that_waited_says_what_a_new_one_says(pool, request_, tmp_path):
    (waiting,) = pool.waiting
    decided = pool.ask(request_)
    assert decided
    assert decided == JudgePool(tmp_path, uid=UID).ask(request_)
    assert waiting not in pool.waiting  # it judged once, and ended
    assert not Path(f"/proc/{waiting}").exists()


def test_the_place_of_one_that_was_asked_is_taken_by_another(pool, request_):
    (first,) = pool.waiting
    pool.ask(request_)
    pool.fill()
    assert pool.waiting
    assert first not in pool.waiting


def test_one_that_died_while_it_waited_is_replaced_and_the_job_judged(pool, request_):
    (waiting,) = pool.waiting
    os.kill(waiting, signal.SIGKILL)
    assert set(pool.ask(request_)) == {"result"}


def test_one_that_dies_when_it_is_asked_is_replaced_too(pool, request_, monkeypatch):
    (waiting,) = pool.waiting
    taken = pool._take
    monkeypatch.setattr(pool, "_take", lambda: _killed(taken()))
    assert set(pool.ask(request_)) == {"result"}
    assert waiting not in pool.waiting


def _killed(process):
    process.kill()
    return process


def test_one_that_waits_is_confined_as_one_that_judges(pool):
    (waiting,) = pool.waiting
    confined = when_confined(waiting)
    assert int(confined["CapEff"], 16) == 0
    assert confined["NoNewPrivs"] == "1"
    assert confined["Seccomp"] == "2"
    limits = Path(f"/proc/{waiting}/limits").read_text()
    assert str(4 << 30) in limits
    assert Path(f"/proc/{waiting}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    if os.getuid() == 0:
        assert set(confined["Uid"].split()) == {str(UID)}


def test_those_who_wait_end_with_the_pool(tmp_path):
    pool = JudgePool(tmp_path, uid=UID, size=2)
    pool.fill()
    waiting = pool.waiting
    assert len(waiting) == 2
    pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in waiting)
    pool.fill()
    assert pool.waiting == ()


def test_a_judge_that_fails_lets_nothing_out(tmp_path, request_):
    broken = JudgeRequest(
        "no policy", request_.contract, request_.candidates, (), (), request_.out_dir, in_envelope=True
    )
    assert JudgePool(tmp_path, uid=UID).ask(broken) == {}
