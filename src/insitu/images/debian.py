"""A root file system from Debian or Ubuntu packages, as a tar, by mmdebstrap.

The same packages give the same bytes: times are 0, and what differs from machine to
machine or from hour to hour is removed: caches, logs, machine-id, host name, resolver.
So is what a job has no use for: manuals, translations, set-user-id bits. Licences
(`/usr/share/doc/*/copyright`) and the package database stay, for whoever has to
say what is in it.

Method: reproducible-builds.org (SOURCE_DATE_EPOCH); mmdebstrap(1).
"""

from __future__ import annotations

import platform as machine
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from insitu.domain.errors import InsituError, UnavailableError, UnreachableError

PACKAGES = ("python3", "ca-certificates", "libgomp1", "libstdc++6", "tzdata")
"""Python, TLS roots, and the shared libraries that wheels of numerical libraries expect of a system."""


def suite_of_this_machine() -> str:
    """The release that this machine runs if it is Debian or Ubuntu, else Debian 12."""
    fields = machine.freedesktop_os_release()
    known = fields.get("ID") in ("debian", "ubuntu")
    return fields.get("VERSION_CODENAME", "bookworm") if known else "bookworm"


_CLEAN = r"""set -eu
cd "$1"
rm -rf var/cache/* var/log/* var/lib/apt/lists/* var/lib/dpkg/*-old etc/machine-id var/lib/dbus/machine-id
rm -rf usr/share/bash-completion usr/share/bug usr/share/lintian
echo localhost > etc/hostname
: > etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n' > etc/hosts
chmod 0644 etc/hostname etc/resolv.conf etc/hosts
find . -xdev -type f -perm /6000 -exec chmod a-s {} +
find usr/lib/python3* -name __pycache__ -prune -exec rm -rf {} +
"""
# Bytecode that is never compared with its source: a base is read-only, so the source can't change.
_COMPILE = (
    'chroot "$1" env PYTHONHASHSEED=0 python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3*'
)


_BEFORE_MERGED_USR = ("buster", "bullseye", "focal", "jammy")


def install_packages(suite: str, packages: Sequence[str], tar: Path, *, folders: Sequence[str]) -> None:
    """Write a root file system with the essential packages, `packages` and empty `folders` to `tar`.

    Raises:
        UnavailableError: mmdebstrap is missing, or could not finish.
        UnreachableError: the packages' mirror didn't answer.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise UnavailableError(
            "no base image can be built here",
            why="mmdebstrap is not installed",
            hint="apt install mmdebstrap, or import a base by digest from a registry",
        )
    # Without this, essential packages ask for a program in Perl that moves /bin to /usr/bin: 50 MB.
    hooks = Path("/usr/share/mmdebstrap/hooks/merged-usr")
    is_merged = hooks.is_dir() and suite not in _BEFORE_MERGED_USR
    merged = [f"--hook-dir={hooks}", "--include=usr-is-merged"] if is_merged else []
    command = ["env", "SOURCE_DATE_EPOCH=0", "LC_ALL=C.UTF-8", program, "--variant=essential", "--format=tar", *merged]
    command += [f"--include={','.join(packages)}", '--aptopt=APT::Install-Recommends "false"']
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "info", "locale", "doc", "lintian")]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", "--skip=output/dev", "--skip=output/mknod"]
    made = " ".join(f'"$1/{name}"' for name in folders)
    command += [f"--customize-hook={hook}" for hook in (_CLEAN, _COMPILE, f"mkdir -p {made}")]
    done = subprocess.run([*command, suite, str(tar)], capture_output=True, check=False)
    if done.returncode != 0:
        raise _mmdebstrap_error(suite, done.stderr.decode(errors="replace"))


def _mmdebstrap_error(suite: str, stderr: str) -> InsituError:
    lines = [line for line in stderr.splitlines() if line.startswith(("E:", "W:", "Err:"))] or stderr.splitlines()
    why = re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", " ".join(lines[-5:]))[:1000]
    if re.search(r"Could not (resolve|connect)|Failed to fetch|Unable to connect|Temporary failure", stderr):
        return UnreachableError(
            f"the packages of {suite} could not be fetched", why=why, hint="check the mirror in /etc/apt/sources.list"
        )
    return UnavailableError(f"mmdebstrap could not build a base of {suite}", why=why, hint="run it as root, or see why")
