"""The README's commands work: what it marks for running is run, in order, in one shell, as a reader would.

A block is marked by a line `<!-- run -->` right before its fence. Lines that begin with `$ ` are commands, `> `
continues one, the rest is output to be read and not compared. The shell starts in an empty home with a copy of
`examples/`; what the commands leave running is ended with the shell.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^<!-- run -->\n```console\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
TIME_LIMIT_S = 600


def commands(readme: str) -> list[str]:
    found: list[str] = []
    for block in BLOCK.finditer(readme):
        for line in block["body"].splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif line.startswith("> ") and found:
                found[-1] += "\n" + line[2:]
    return found


def test_the_commands_of_the_readme_do_what_it_says(tmp_path):
    lines = commands((ROOT / "README.md").read_text())
    assert lines, "README.md marks no block with <!-- run -->"
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(ROOT / "examples", home / "examples")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "INSITU_", "MLFLOW_"))},
        "HOME": str(home),
        "XDG_CACHE_HOME": cache,  # the base image and uv's packages, which take minutes to make anew
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    status, output = shell("\n".join(lines), home, environment)
    assert status == 0, f"the last command shown failed with {status}:\n{output[-6000:]}"


def shell(script: str, home: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run the lines in one bash that stops at the first failure; then end all that it started."""
    log = home.parent / "output.txt"
    with log.open("wb") as sink:
        bash = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-x", "-c", script],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = bash.wait(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = 124
        finally:
            end_session(bash)
    return status, log.read_text(errors="replace")


def end_session(bash: subprocess.Popen[bytes]) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(bash.pid, ending)
        except ProcessLookupError:
            break
        try:
            bash.wait(timeout=20)
        except subprocess.TimeoutExpired:
            continue


def test_commands_are_read_from_marked_blocks_alone():
    text = "```console\n$ no\n```\n<!-- run -->\n```console\n$ a \\\n> b\nits output\n$ c\n```\n"
    assert commands(text) == ["a \\\nb", "c"]
