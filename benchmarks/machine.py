"""The machine that figures were measured on, in words that name nobody: a ratio depends on it too."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path


def describe_machine() -> dict[str, str]:
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "file system": _file_system(Path(tempfile.gettempdir())),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        **{name: _version(name) for name in ("bwrap", "podman", "docker")},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _file_system(folder: Path) -> str:
    # Not `stat`: to it ext2, ext3 and ext4 are one.
    command = ["df", "--output=fstype", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.returncode == 0 else "unknown"


def _version(program: str) -> str:
    if shutil.which(program) is None:
        return "absent"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return next((word.strip(",") for word in words if word[:1].isdigit()), "unknown")
