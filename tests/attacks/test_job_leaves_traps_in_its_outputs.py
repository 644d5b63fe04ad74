"""A job leaves in its outputs what is no output: links, pipes, devices, files that never end, names that lead away.

What reads outputs runs later, outside of the sandbox and with more rights than the job had. So each trap is set from
inside of every sandbox, then the folder is frozen and judged as the agent does it: nothing of the site may be read, no
trap may hold anybody up, and no file may be let out.
"""

import json
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from insitu.agent.workspace import Workspace
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate.judgement import Candidate, JudgeLimits, JudgeRequest, judge_request_json, read_judge_reply
from insitu.testing.builders import a_policy_text
from insitu.wire.keys import SigningKey
from tests.sandbox_rig import Rig, bubblewrap_rig, docker_socket, rig

FIXTURES = (bubblewrap_rig, docker_socket, rig)
SECRET = "known only to the site 4711"


def judged(rig: Rig, code: str, tmp_path: Path, *, time_s: float = 20.0) -> tuple[Path, Verdict, str]:
    """Run `code` with its outputs at hand, freeze them, and let the judge decide about the output `result`."""
    rig.says(code)
    workspace = Workspace(tmp_path / f"job-{rig.kind}")
    workspace.root.mkdir()
    rig.runs[-1].outputs.rename(workspace.outputs)
    workspace.freeze()
    result = workspace.frozen / "result"
    out = tmp_path / f"out-{rig.kind}"
    out.mkdir()
    request = JudgeRequest(
        policy=a_policy_text(SigningKey.generate()),
        contract=ReleaseContract(outputs=(OutputContract("result", OutputType.URI_FOLDER),)),
        candidates=(Candidate("result", OutputType.URI_FOLDER, result),),
        index_dirs=(),
        lock_packages=(),
        out_dir=out,
        limits=JudgeLimits(time_s=time_s, expansion_bytes=64_000_000),
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "insitu.gate.judge"],
        input=judge_request_json(request).encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert SECRET.encode() not in done.stdout
    (decision,) = read_judge_reply(done.stdout.decode()).decisions
    for path in out.rglob("*"):
        assert not path.is_symlink()
        assert not path.is_file() or SECRET not in path.read_text(errors="replace")
    return workspace.frozen, decision.verdict, decision.rule


HONEST = "import os, json; os.mkdir('result'); json.dump({'auc': 0.91}, open('result/report.json', 'w'))\n"


def test_without_a_trap_the_output_is_let_out(rig: Rig, tmp_path: Path):
    """Else the tests below would pass for any reason."""
    assert judged(rig, HONEST, tmp_path)[1:] == (Verdict.RELEASED, "clean")


@pytest.mark.parametrize(
    "trap",
    [
        "os.symlink({secret!r}, 'result/link.json')",
        "os.symlink(os.path.dirname({secret!r}), 'result/folder')",
        "os.symlink('/proc/self/environ', 'result/link.json')",
        "os.symlink('../../../../../../../..{secret}', 'result/link.json')",
        "os.remove('result/report.json'); os.rmdir('result'); os.symlink({secret!r}, 'result')",
        "os.remove('result/report.json'); os.rmdir('result'); os.symlink(os.path.dirname({secret!r}), 'result')",
    ],
)
def test_a_link_is_never_followed(rig: Rig, tmp_path: Path, trap: str):
    secret = tmp_path / "site" / "secret.json"
    secret.parent.mkdir()
    secret.write_text(json.dumps({"name": SECRET}))
    before = stat.S_IMODE(secret.stat().st_mode)
    _, verdict, rule = judged(rig, HONEST + trap.format(secret=str(secret)), tmp_path)
    assert (verdict, rule) == (Verdict.HELD, "kind")
    assert stat.S_IMODE(secret.stat().st_mode) == before, "freezing changed what the link leads to"


def test_a_hard_link_to_the_data_is_not_made_or_not_taken(rig: Rig, tmp_path: Path):
    code = HONEST + (
        "for source in ('/job/inputs/data/table.csv', '/etc/hostname', '/proc/self/fd/0'):\n"
        "    try: os.link(source, 'result/hard.json'); print('LINKED')\n"
        "    except OSError: pass\n"
        "os.link('result/report.json', 'result/twice.json')\n"
    )
    frozen, verdict, rule = judged(rig, code, tmp_path)
    assert rig.runs[-1].stdout() == ""
    assert sorted(path.name for path in (frozen / "result").iterdir()) == ["report.json", "twice.json"]
    # A file with two names could be changed through the other one after it was judged.
    assert (verdict, rule) == (Verdict.HELD, "kind")


@pytest.mark.parametrize(
    "trap",
    [
        "os.mkfifo('result/pipe.json')",
        "import socket; socket.socket(socket.AF_UNIX).bind('result/socket.json')",
        "os.mknod('result/null.json', 0o20666, os.makedev(1, 3))",
        "os.mknod('result/disk.json', 0o60666, os.makedev(8, 0))",
    ],
)
def test_what_is_no_plain_file_holds_nobody_up(rig: Rig, tmp_path: Path, trap: str):
    code = HONEST + f"try: {trap}\nexcept OSError: print('refused', end='')\n"
    began = time.monotonic()
    frozen, verdict, rule = judged(rig, code, tmp_path)
    assert time.monotonic() - began < 40, "somebody waited for the other end of it"
    kinds = [path for path in (frozen / "result").iterdir() if not path.is_file()]
    assert not [path for path in kinds if stat.S_ISCHR(path.lstat().st_mode) or stat.S_ISBLK(path.lstat().st_mode)]
    if rig.runs[-1].stdout() == "refused":
        assert (verdict, kinds) == (Verdict.RELEASED, [])
    else:
        assert (verdict, rule) == (Verdict.HELD, "kind")


@pytest.mark.parametrize(
    "trap",
    [
        "open('result/huge.json', 'wb').truncate(1 << 43)",  # 8 TiB that take no room
        "open('result/large.json', 'wb').write(b'[' + b'1,' * 45_000_000 + b'1]')",
        "[open(f'result/{number}.json', 'w').write('{}') for number in range(20_000)]",
        "os.makedirs(deep := 'result/' + '/'.join(['d'] * 400)); open(deep + '/x.json', 'w').write('{}')",
    ],
    ids=["sparse", "large", "many", "deep"],
)
def test_too_much_is_bounded_and_held(rig: Rig, tmp_path: Path, trap: str):
    code = HONEST + f"try: {trap}\nexcept OSError as exc: print('refused', end='')\n"
    _, verdict, _ = judged(rig, code, tmp_path)
    if rig.runs[-1].stdout() != "refused":
        assert verdict is not Verdict.RELEASED


@pytest.mark.parametrize(
    "name", ["..\\..\\etc.json", "-rf.json", "a\nb.json", "\udcff.json", "$(reboot).json", "x" * 250 + ".json", ".json"]
)
def test_a_name_leads_nowhere_and_says_nothing(bubblewrap_rig: Rig, tmp_path: Path, name: str):
    rig = bubblewrap_rig
    code = HONEST + f"os.rename('result/report.json', 'result/' + {name!r})\n"
    _, verdict, _ = judged(rig, code, tmp_path)
    assert verdict is not Verdict.RELEASED
    assert not [path for path in (tmp_path / f"out-{rig.kind}").rglob("*") if path.name == name]


def test_what_runs_on_after_the_end_can_not_change_what_was_frozen(rig: Rig, tmp_path: Path):
    """It is killed with the sandbox, and the folder is moved away from under its path."""
    code = HONEST + (
        "import time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    stream = open('result/report.json', 'w')\n"
        "    while True: stream.seek(0); stream.write('x' * 1000); stream.flush(); time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "json.dump({'auc': 0.91}, open('result/report.json', 'w'))\n"
    )
    frozen, _, _ = judged(rig, code, tmp_path)
    first = (frozen / "result" / "report.json").read_bytes()
    time.sleep(0.1)
    assert (frozen / "result" / "report.json").read_bytes() == first
