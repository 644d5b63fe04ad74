"""The texts of an environment's packages, for the gate's process of each job that runs in it.

They are looked for once for each environment, in a process of its own: packages
are not ours, and their files are large. It takes a second or two for a hundred
megabytes of packages, when the environment has just been put ready; so a line
has the same price at its first job as at its last one. Where it goes wrong, lines
of libraries are dearer, and the next job tries again.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from insitu.gate.channels.installed_texts import TEXTS_VERSION

_log = logging.getLogger("insitu.agent")
_MAKER = [sys.executable, "-P", "-m", "insitu.gate.channels.installed_code"]
_LONGEST_S = 120


def known_texts(tree: Path) -> Path:
    """Where the texts of the environment whose tree this is lie once they were made."""
    return tree.parent.with_name(f"{tree.parent.name}.texts-{TEXTS_VERSION}")


def texts_of(tree: Path) -> Path | None:
    """The file with the texts of the environment whose tree this is; None if it can't be made."""
    known = known_texts(tree)
    if known.exists():
        return known
    packages = next(tree.glob("lib/python3.*/site-packages"), None)
    if packages is None:
        return None
    try:
        subprocess.run([*_MAKER, packages, known], check=True, capture_output=True, timeout=_LONGEST_S)
    except (OSError, subprocess.SubprocessError) as exc:
        _log.warning("the texts of environment %s can't be read: %s", tree.parent.name[:12], type(exc).__name__)
        return None
    return known
