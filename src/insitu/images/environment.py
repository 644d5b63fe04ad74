"""Environments: a lock's packages as a tree, put ready once and then only mounted.

    <target>/<key>/environment.json      what it is made of; written last, so its presence means whole
    <target>/<key>/tree/                 mounted read-only at /opt/env:
        bin/python -> /usr/bin/python3   the base's interpreter
        bin/<console script>             #!/opt/env/bin/python
        pyvenv.cfg                       makes that python find the packages below
        lib/python3.11/site-packages/    the packages, with bytecode

Only wheels, each by the sha256 in the signed lock; uv compares, for the network
as for its cache, and never builds. The tree doesn't depend on the folder it was
made in: the same lock, base and platform give the same bytes, at any site and
inside an image.

Files are hard links into uv's cache and the bytecode store, so their bytes exist
once on disk. It also means that writing to one would poison the cache: a tree is
made read-only in mode, and must be *mounted* read-only, since a mode stops
neither root nor the owner.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import ctypes
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import UnavailableError
from insitu.domain.images import Lock
from insitu.images.base import find_interpreter
from insitu.images.bytecode import add_bytecode, compilers, installed_folders
from insitu.images.locks import (
    IndexSettings,
    find_uv,
    lock_requirements,
    parse_lock,
    uv_error,
    uv_platform,
    uv_settings,
)
from insitu.images.wheel_choice import chosen_wheels

__all__ = [
    "Environment",
    "IndexSettings",
    "environment_key",
    "find_environment",
    "lock_requirements",
    "materialise",
    "parse_lock",
]

MOUNTED_AT = "/opt/env"
_FORMAT = 1  # changes whenever the same lock would give other bytes

Progress = Callable[[str], object]


@dataclass(frozen=True)
class Environment:
    """A tree that is whole and ready to be mounted. `tree` is what goes to /opt/env, read-only."""

    tree: Path
    key: str  # 64 hex digits
    lock: Digest
    base: str  # the base's digest; empty when none was given
    platform: str
    python: str  # e.g. "3.11"
    packages: tuple[tuple[str, str], ...]  # names and versions
    compiled_by: str
    reused: bool  # it was there already


def environment_key(lock: Digest, base: str, platform: str, python: str) -> str:
    """The name of the environment that these give. 64 hex digits."""
    document = {"base": base, "format": _FORMAT, "lock": lock, "platform": platform, "python": python}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def find_environment(
    lock: Digest, target: Path, *, python_version: str, platform: str, base_digest: str
) -> Environment | None:
    """The environment below `target` if it is whole already: a lookup."""
    return _ready(target / environment_key(lock, base_digest, platform, python_version))


def materialise(
    lock_bytes: bytes,
    target: Path,
    *,
    python_version: str,
    platform: str,
    cache_dir: Path,
    base_rootfs: Path | None = None,
    base_digest: str = "",
    offline: bool = False,
    index_url: str | None = None,
    index: IndexSettings | None = None,
    progress: Progress = lambda _: None,
) -> Environment:
    """Put a lock's packages ready below `target`, or find that they are.

    Args:
        lock_bytes: the pylock.toml whose digest was signed (the caller has compared it).
        target: folder of all environments; on the disk that `cache_dir` is on, or files are copied.
        python_version: the base's Python, "3.11".
        platform: "x86_64-linux".
        cache_dir: uv's cache and the bytecode store.
        base_rootfs: the unpacked base, whose Python compiles.
        base_digest: that base's name; read from the `base.json` beside it when empty.
        offline: nothing is fetched: the cache (and `index`, if it is on disk) has it, or it fails.
        index_url: a mirror to fetch from, instead of the addresses in the lock.
        index: more settings of that kind.
        progress: told what is being done.

    Raises:
        InvalidInputError: the lock can't be installed here by hash alone: a package is no wheel, is not for this
            platform, or arrived with another hash. Nothing is left behind.
        UnreachableError: a package is not in the cache and the index doesn't answer.
        UnavailableError: no disk, or nothing here can compile for that Python.
    """
    base = base_digest or _digest_beside(base_rootfs)
    key = environment_key(digest_of(lock_bytes), base, platform, python_version)
    ready = _ready(target / key)
    if ready is not None:
        return ready
    lock = parse_lock(lock_bytes)
    target.mkdir(parents=True, exist_ok=True)
    cache_dir.mkdir(parents=True, exist_ok=True)
    if index is None and index_url is not None:
        index = IndexSettings(index_url=index_url)
    with _only_one(target, key):
        ready = _ready(target / key)  # another process may have made it while this one waited
        if ready is not None:
            return ready
        work = Path(tempfile.mkdtemp(prefix=".work-", dir=target))
        try:
            maker = _Maker(lock, lock_bytes, work / "tree", python_version, platform, cache_dir, progress)
            maker.install(index, offline=offline)
            compiled_by = maker.finish(base_rootfs, base)
            names = tuple((package.name, package.version) for package in lock.packages)
            made = Environment(
                target / key / "tree",
                key,
                lock.digest,
                base,
                platform,
                python_version,
                names,
                compiled_by,
                reused=False,
            )
            _publish(work, target / key, made)
        except OSError as error:
            raise UnavailableError(
                "the environment could not be written", why=str(error), hint="free some disk"
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return made


@dataclass(frozen=True)
class _Maker:
    lock: Lock
    lock_bytes: bytes
    tree: Path
    python: str
    platform: str
    cache_dir: Path
    progress: Progress

    @property
    def site_packages(self) -> Path:
        return self.tree / "lib" / f"python{self.python}" / "site-packages"

    def install(self, index: IndexSettings | None, *, offline: bool) -> None:
        """Let uv put the wheels in place. With an index of our own, names and hashes are asked there."""
        self.site_packages.mkdir(parents=True)
        self.progress(f"installing {len(self.lock.packages)} packages")
        # An empty file instead of the user's settings: what is installed depends on the lock alone.
        with (
            uv_settings(index or IndexSettings()) as settings,
            tempfile.TemporaryDirectory(prefix="insitu-lock-") as folder,
        ):
            if index is None:
                source = Path(folder) / "pylock.toml"
                source.write_bytes(self.lock_bytes)
            else:
                source = Path(folder) / "requirements.txt"
                source.write_text(self._as_requirements(), encoding="utf-8")
            command = [str(find_uv()), "pip", "sync", str(source), *settings, "--target", str(self.site_packages)]
            command += ["--python", sys.executable, "--python-version", self.python]
            command += ["--python-platform", uv_platform(self.platform), "--cache-dir", str(self.cache_dir / "uv")]
            command += ["--no-build", "--require-hashes", "--link-mode", "hardlink", "--allow-empty-requirements"]
            command += ["--quiet", "--no-progress"]
            # From the cache first: else uv asks the index again for each package that it has already.
            done = subprocess.run([*command, "--offline"], capture_output=True, check=False)
            if done.returncode != 0 and not offline:
                done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            raise uv_error("the environment's packages could not be installed", done.stderr)

    def _as_requirements(self) -> str:
        """What is wanted here, each by the one wheel that every place like this one takes."""
        chosen = chosen_wheels(self.lock, python=self.python, platform=self.platform)
        return "".join(f"{package.name}=={package.version} --hash=sha256:{wheel.sha256}\n" for package, wheel in chosen)

    def finish(self, rootfs: Path | None, base: str) -> str:
        """Make the tree relocatable and read-only; returns which Python compiled."""
        interpreter = find_interpreter(rootfs, self.python) if rootfs else f"/usr/bin/python{self.python}"
        _add_interpreter(self.tree, interpreter, self.python)
        _relocate(self.tree, self.site_packages)
        self.progress("compiling")
        candidates = compilers(
            self.python, rootfs=rootfs, interpreter=interpreter, base_name=base, bwrap=shutil.which("bwrap")
        )
        prefix = f"{MOUNTED_AT}/{self.site_packages.relative_to(self.tree)}"
        store = self.cache_dir / "bytecode"
        compiler = add_bytecode(
            self.site_packages, self.lock, store=store, candidates=candidates, platform=self.platform, prefix=prefix
        )
        _make_read_only(self.site_packages)
        return compiler.name


def _add_interpreter(tree: Path, interpreter: str, python: str) -> None:
    folder = tree / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(interpreter)
    for name in ("python3", f"python{python}"):
        (folder / name).symlink_to("python")
    home = interpreter.rpartition("/")[0]
    text = f"home = {home}\ninclude-system-site-packages = false\nversion = {python}\n"
    (tree / "pyvenv.cfg").write_text(text, encoding="utf-8")


def _relocate(tree: Path, site_packages: Path) -> None:
    """Move console scripts to `bin`, with the shebang that holds where the tree is mounted, and correct RECORD."""
    moved: dict[str, bytes] = {}
    scripts = site_packages / "bin"
    if scripts.is_dir():
        for script in sorted(scripts.iterdir()):
            content = _with_our_shebang(script.read_bytes())
            # Always a new file: the old one may be a hard link into the cache.
            with (tree / "bin" / script.name).open("xb") as stream:
                stream.write(content)
                os.fchmod(stream.fileno(), 0o755)
            moved[f"bin/{script.name}"] = content
        shutil.rmtree(scripts)
    for dist_info in installed_folders(site_packages).values():
        _correct_record(dist_info, moved)


def _with_our_shebang(content: bytes) -> bytes:
    first, _, rest = content.partition(b"\n")
    ours = f"#!{MOUNTED_AT}/bin/python\n".encode()
    if first == b"#!/bin/sh" and rest.startswith(b"'''exec' "):  # installers do so when the path is long
        return ours + rest.split(b"\n", 2)[2]
    if first.startswith(b"#!") and b"python" in first:
        return ours + rest
    return content


_TIMED_FILES = ("uv_cache.json", "uv_build.json")  # uv notes there when and from where it installed


def _correct_record(dist_info: Path, moved: dict[str, bytes]) -> None:
    record = dist_info / "RECORD"
    raw = b"\n" + record.read_bytes()
    if b"\nbin/" not in raw and not any(name.encode() in raw for name in _TIMED_FILES):
        return  # most: not worth parsing
    with record.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    kept = [row for row in rows if row and row[0].rpartition("/")[2] not in _TIMED_FILES]
    for name in _TIMED_FILES:
        (dist_info / name).unlink(missing_ok=True)
    corrected = [_moved_row(row, moved) for row in kept]
    if corrected != rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(sorted(corrected))
        record.unlink()
        record.write_text(text.getvalue(), encoding="utf-8")


def _moved_row(row: list[str], moved: dict[str, bytes]) -> list[str]:
    content = moved.get(row[0])
    if content is None:
        return row
    checksum = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [f"../../../{row[0]}", f"sha256={checksum}", str(len(content))]


def _make_read_only(site_packages: Path) -> None:
    for dist_info in installed_folders(site_packages).values():
        for name in ("RECORD", "INSTALLER", "REQUESTED"):  # the files that uv writes anew
            with contextlib.suppress(FileNotFoundError):
                (dist_info / name).chmod(0o444)
        # The others are links into the cache. One of them shows whether this was done to their wheel before:
        # to ask each would cost as much as to install.
        if (dist_info / "METADATA").stat().st_mode & 0o222:
            _make_files_read_only(site_packages, dist_info)


def _make_files_read_only(site_packages: Path, dist_info: Path) -> None:
    with (dist_info / "RECORD").open(newline="", encoding="utf-8") as stream:
        names = [row[0] for row in csv.reader(stream) if row and not row[0].startswith(("../", "/"))]
    metadata = f"{dist_info.name}/METADATA"
    for name in [*(name for name in names if name != metadata), metadata]:  # last: it says that all are done
        place = site_packages / name
        with contextlib.suppress(FileNotFoundError):  # RECORD may name bytecode that the wheel doesn't have
            place.chmod(0o555 if place.stat().st_mode & 0o100 else 0o444)


def _ready(place: Path) -> Environment | None:
    try:
        fields = json.loads((place / "environment.json").read_bytes())
    except FileNotFoundError:
        return None
    packages = tuple((str(name), str(version)) for name, version in fields.pop("packages"))
    return Environment(tree=place / "tree", packages=packages, reused=True, **fields)


def _publish(work: Path, place: Path, made: Environment) -> None:
    fields = asdict(made)
    del fields["tree"], fields["reused"]
    (work / "environment.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    work.chmod(0o755)
    # uv doesn't flush what it unpacks: without this a power cut could leave empty files under a valid name.
    _flush_disk(work)
    if place.exists():  # without environment.json: not ours to trust
        shutil.rmtree(place)
    work.rename(place)
    handle = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_disk(folder: Path) -> None:
    """`syncfs`: one call for thousands of files, on the one disk that holds them."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", str(folder))
    finally:
        os.close(handle)


def _digest_beside(rootfs: Path | None) -> str:
    if rootfs is None:
        return ""
    try:
        return str(json.loads((rootfs.parent / "base.json").read_bytes())["digest"])
    except (FileNotFoundError, KeyError, ValueError):
        return ""


@contextmanager
def _only_one(target: Path, key: str) -> Iterator[None]:
    with (target / f".lock-{key}").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
