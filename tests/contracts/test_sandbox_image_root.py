"""A sandbox whose root is somebody's image: what of ours starts inside is the base's, whatever the image has of that name."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from insitu.sandbox.beside import TOOLS_TARGET, command_beside
from insitu.sandbox.spec import Reason
from tests.sandbox_rig import Rig, Run

LIAR = "#!/bin/sh\nexit 7\n"
PYTHON = "/usr/bin/python3.11"


@pytest.fixture(scope="module")
def image_root(tmp_path_factory: pytest.TempPathFactory, base_rootfs: Path) -> Path:
    """The base's files, but with a `cat` and a `python3` that lie, and the real Python under its other name."""
    folder = tmp_path_factory.mktemp("image")
    root = folder / "rootfs"
    subprocess.run(["cp", "-al", base_rootfs, root], check=True)
    for above in (folder, *folder.parents):  # an ordinary user passes, however deep pytest has put it
        if not above.stat().st_mode & stat.S_IXOTH:
            above.chmod(0o755)
    for name in ("cat", "python3"):
        place = root / "usr/bin" / name
        place.unlink()
        place.write_text(LIAR)
        place.chmod(0o755)
    python = (base_rootfs / "usr/bin/python3").resolve()
    if python.name != "python3.11":
        os.link(python, root / PYTHON.lstrip("/"))
    return root


def in_image(rig: Rig, root: Path, code: str, *, tools: bool = True) -> Run:
    """Code under the image's own Python."""
    return rig.run(code, rootfs=root, tools=rig.rootfs if tools else None, argv=(PYTHON, "-c", code))


def test_code_runs_in_an_image_whose_own_programs_lie(rig: Rig, image_root: Path):
    run = in_image(rig, image_root, "print('here')")
    result = run.result()
    assert (result.reason, result.exit_code) == (Reason.EXITED, 0), (result, run.stderr())
    assert run.stdout() == "here\n"


def test_an_image_whose_programs_lie_does_not_start_as_a_base(bubblewrap_rig: Rig, image_root: Path):
    assert in_image(bubblewrap_rig, image_root, "print('here')", tools=False).result().reason is not Reason.EXITED


def test_what_lies_beside_an_image_is_read_only(rig: Rig, image_root: Path):
    code = (
        f"import os\ntry:\n open('{TOOLS_TARGET}/x', 'w')\nexcept OSError as e: print(e.errno)\nprint(os.getuid() == 0)"
    )
    run = in_image(rig, image_root, code)
    assert run.result().exit_code == 0, run.stderr()
    assert run.stdout() == "30\nFalse\n"  # EROFS


def test_a_program_of_the_base_runs_by_the_base_s_own_loader(base_rootfs: Path):
    command = command_beside(base_rootfs, "/bin/cat", "/etc/hostname")
    assert all(part.startswith(TOOLS_TARGET) for part in (command[0], command[-2]))
    here = [part.replace(TOOLS_TARGET, str(base_rootfs)) for part in command]
    assert shutil.which(here[0])
    assert subprocess.run(here, capture_output=True, check=True).stdout == Path("/etc/hostname").read_bytes()
