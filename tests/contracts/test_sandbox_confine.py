"""Our own programs, confined: they run, and have nothing they do not need."""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.domain.errors import InvalidInputError
from insitu.sandbox.confine import confined_argv
from tests.sandbox_rig import USER_UID

UID = USER_UID + 1


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="insitu-confine-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def confined(code: str, *before: str, given: str = "", **options) -> subprocess.CompletedProcess[str]:
    options = {"uid": UID, "gid": UID, "memory_bytes": 2 << 30, **options}
    argv = [*before, *confined_argv([sys.executable, "-c", code], **options)]
    return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=60, check=False)


def says(code: str, *before: str, **options) -> str:
    done = confined(code, *before, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_the_program_with_its_streams_and_exit_code():
    done = confined("import sys; print(sys.stdin.read()[::-1]); sys.exit(5)", given="abc")
    assert (done.stdout, done.returncode) == ("cba\n", 5)


def test_it_is_somebody_else_without_privileges():
    code = """
import json, os
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), [int(status[n], 16) for n in status if n[:3] == 'Cap'],
                  status['NoNewPrivs'], status['Seccomp']]))
"""
    assert json.loads(says(code)) == [[UID] * 3, [UID] * 3, [], [0] * 5, "1", "2"]


def test_it_has_no_network():
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        code = f"""
import socket
for address in (('127.0.0.1', {port}), ('1.1.1.1', 80), ('169.254.169.254', 80)):
    try: socket.create_connection(address, 2); print('WORKED')
    except OSError as exc: print('no')
"""
        assert says(code).split() == ["no"] * 3


def test_it_speaks_through_unix_sockets(open_folder: Path):
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(open_folder / "s"))
        (open_folder / "s").chmod(0o666)
        service.listen()
        assert says(f"import socket; socket.socket(socket.AF_UNIX).connect('{open_folder}/s'); print('yes')") == "yes"


def test_it_cannot_trace_unshare_or_come_back_as_root():
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000), libc.ptrace(16, os.getppid(), 0, 0), libc.setuid(0))
"""
    assert says(code) == "-1 -1 -1"


def test_its_memory_and_processes_are_bounded():
    code = "import os\ntry: bytearray(1 << 30)\nexcept MemoryError: print('memory')\n"
    code += "try:\n for _ in range(50): os.fork() or os._exit(0)\nexcept OSError: print('processes')"
    assert says(code, memory_bytes=512 << 20, processes=20).split() == ["memory", "processes"]


def test_its_processor_time_is_bounded():
    assert confined("while True: pass", cpu_s=1).returncode < 0


def test_what_is_closed_to_its_uid_stays_closed(tmp_path: Path):
    tmp_path.chmod(0o700)
    (tmp_path / "policy").write_text("x")
    assert "PermissionError" in confined(f"open('{tmp_path}/policy')").stderr


def test_a_folder_below_a_closed_one_is_reached_when_it_is_named(open_folder: Path):
    closed, shared = open_folder / "closed", open_folder / "closed/deep/shared"
    shared.mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "secret").touch()
    shared.chmod(0o777)
    code = f"import os; open('{shared}/new', 'w').close(); print(os.listdir('{closed}'), os.listdir('{shared}'))"
    assert says(code, folders=[shared]) == "['deep'] ['new']"
    assert (shared / "new").stat().st_uid == UID


def test_an_ordinary_user_is_confined_too():
    code = (
        "import os, socket; print(os.getuid(), socket.if_nameindex(), open('/proc/self/status').read().count('0' * 16))"
    )
    launcher = (
        "import os, sys; from insitu.sandbox import confine; confine._open_the_way(confine._needed(), [])\n"
        f"os.setgroups([]); os.setresgid(*[{USER_UID}] * 3); os.setresuid(*[{USER_UID}] * 3)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    said = says(code, sys.executable, "-c", launcher)
    assert said.startswith(f"{USER_UID} [(1, 'lo')]")


def test_root_is_refused():
    for uid, gid in ((0, 5), (5, 0)):
        with pytest.raises(InvalidInputError):
            confined_argv(["/bin/true"], memory_bytes=1, uid=uid, gid=gid)


def test_a_malformed_command_runs_nothing():
    for arguments in ([], ["--uid", "1"], ["--uid", "1", "--", "/bin/true"]):
        done = subprocess.run(
            [sys.executable, "-m", "insitu.sandbox.confine", *arguments], capture_output=True, check=False
        )
        assert done.returncode == 2


def test_what_cannot_be_confined_is_not_run(open_folder: Path):
    # Without CAP_SYS_ADMIN no namespace can be made, and the program must not run without one.
    code = f"open('{open_folder}/ran', 'w')"
    open_folder.chmod(0o777)
    done = confined(code, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--")
    assert done.returncode == 126
    assert not (open_folder / "ran").exists()
