"""Putting a lock's packages ready: found again, new from the site's cache, and cold from the hub.

A lock that was seen before should cost about what mounting its tree costs, by the
same tools that a person has. A new one should cost about what uv alone takes to
install the same lock and compile it; and one of which the site has nothing about
what uv takes with an empty cache from an index on this machine, which has its
packages' metadata ready. uv compiles each time, we keep bytecode by the wheel: so
uv without compiling is shown too, which is less than both do.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Goal, Row, in_turns, milliseconds, seconds
from benchmarks.programs import ended_by_pid, free_port
from benchmarks.scene import LARGE, Scene, wait_until_it_answers
from benchmarks.speaking_site import SpeakingSite
from insitu.agent.environments import Environments, wheels_in
from insitu.agent.wheels import WheelsOfHub
from insitu.domain.digests import Digest, digest_of
from insitu.domain.images import LockedPackage, LockedWheel
from insitu.images.bytecode import normalised
from insitu.images.locks import find_uv, parse_lock
from insitu.images.wheel_choice import chosen_wheels
from insitu.images.wheel_download import WheelDownload, WheelSource
from insitu.images.wheel_store import WheelStore
from tests.rig import hub_wheels

_ROUNDS = 5
_CHEAP_ROUNDS = 21

Chosen = Sequence[tuple[LockedPackage, LockedWheel]]


def measure(scene: Scene) -> Iterator[Row]:
    yield _seen_before(scene)
    lock = scene.lock(LARGE)
    chosen = chosen_wheels(parse_lock(lock), python=scene.base.python, platform=scene.base.platform)
    site = _WarmSite(scene, lock, chosen)
    rounds, figure = scene.rounds(_ROUNDS), "environment of a new lock, from the site's cache"
    # Without a warm-up: the caches are warm, and uv compiles for seconds each time.
    new, installed = in_turns(rounds, site.new, lambda: _uv_warm(scene, compile_bytecode=True), warm_up=False)
    yield Row(figure, "ms", milliseconds(new), "uv pip install, compiled", milliseconds(installed), Goal(at_most=1.2))
    again, copied = in_turns(rounds, site.new, lambda: _uv_warm(scene, compile_bytecode=False), warm_up=False)
    yield Row(figure, "ms", milliseconds(again), "uv pip install, not compiled", milliseconds(copied))
    texts = [site.texts() for _ in range(rounds)]
    yield Row("… what its packages say, for the gate, before its first job", "ms", milliseconds(texts))
    yield from _cold(scene, chosen, site.store)


def _seen_before(scene: Scene) -> Row:
    tree = scene.environment(LARGE).tree  # also fills the caches that "warm" means
    place = scene.fresh_folder("mounted")
    seen, mounted = in_turns(
        scene.rounds(_CHEAP_ROUNDS),
        lambda: seconds(lambda: scene.environment(LARGE)),
        lambda: seconds(lambda: _mount_read_only(tree, place)),
    )
    return Row(
        "environment of a lock seen before",
        "ms",
        milliseconds(seen),
        "a read-only bind mount, and its end",
        milliseconds(mounted),
        Goal(at_most=2.0),
    )


def _mount_read_only(tree: Path, place: Path) -> None:
    subprocess.run(["mount", "--bind", str(tree), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)


# -- warm --------------------------------------------------------------------------------------------------------------


class _WarmSite:
    """A site whose cache has the wheels, unpacked and compiled before for another lock; and that has no other source."""

    def __init__(self, scene: Scene, lock: bytes, chosen: Chosen) -> None:
        self._scene, self._lock = scene, lock
        self._cache = scene.packages.with_name("site-cache")
        self.store = wheels_in(self._cache)
        download = WheelDownload(WheelSource(hosts=None))
        for _, wheel in chosen:
            download.fetch(wheel, self.store)
        download.close()
        self.new()

    def new(self) -> float:
        self._move()
        environments = Environments(self._cache, self._scene.base, offline=True)
        return seconds(lambda: environments.made(digest_of(self._lock), self._put_lock))

    def texts(self) -> float:
        """The environment anew, and then what its code says, which is looked for once."""
        self._move()
        environments = Environments(self._cache, self._scene.base, offline=True)
        tree = environments.ready(digest_of(self._lock), self._put_lock)
        return seconds(lambda: environments.texts(tree))

    def _move(self) -> None:
        """Its environments come to a part of the disk where nothing was removed lately, as uv's do (`disk.py`)."""
        place = self._cache / "environments"
        if place.is_symlink():
            shutil.rmtree(place.resolve(), ignore_errors=True)
            place.unlink()
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(self._scene.fresh_folder("environments"))

    def _put_lock(self, _: Digest, place: Path) -> None:
        place.write_bytes(self._lock)


def _uv_warm(scene: Scene, *, compile_bytecode: bool) -> float:
    target = scene.fresh_folder("uv")
    lock = target / "pylock.toml"
    lock.write_bytes(scene.lock(LARGE))
    wanted = ["--requirement", str(lock), "--offline", "--cache-dir", str(scene.packages / "uv")]
    took = _uv(scene, target, *wanted, *(["--compile-bytecode"] if compile_bytecode else []))
    shutil.rmtree(target)
    return took


def _uv(scene: Scene, target: Path, *arguments: str) -> float:
    command = [str(find_uv()), "pip", "install", *arguments, "--target", str(target / "packages"), "--no-config"]
    command += ["--python", sys.executable, "--python-version", scene.base.python, "--link-mode", "hardlink", "--quiet"]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


# -- cold --------------------------------------------------------------------------------------------------------------


def _cold(scene: Scene, chosen: Chosen, store: WheelStore) -> Iterator[Row]:
    """Nothing at the site, everything at the hub; nothing in uv's cache, everything at an index on this machine."""
    site = SpeakingSite(scene, "cold")
    assignment = site.take_job(scene.fresh_folder("job"), LARGE)
    signed = Digest(_lock_of(assignment.envelope.payload))
    hub = WheelStore(hub_wheels())
    for _, wheel in chosen:
        with store.place(wheel).open("rb") as stream:
            hub.put(wheel, stream)
    requirements = scene.fresh_folder("requirements") / "requirements.txt"
    requirements.write_text(
        "".join(f"{package.name}=={package.version} --hash=sha256:{wheel.sha256}\n" for package, wheel in chosen)
    )
    with _local_index(scene, chosen, store) as index:

        def ours(*, compiled_before: Path | None = None) -> float:
            cache = scene.fresh_folder("cold-site")
            if compiled_before is not None:
                shutil.copytree(compiled_before, cache / "uv" / "bytecode")
            environments = Environments(cache, scene.base, wheels=WheelsOfHub(site.link, wheels_in(cache)))
            took = seconds(lambda: environments.made(signed, site.link.fetch_blob))
            shutil.rmtree(cache)
            return took

        def uv(*more: str) -> float:
            target = scene.fresh_folder("uv-cold")
            wanted = ["--requirement", str(requirements), "--require-hashes", "--no-deps", "--default-index", index]
            took = _uv(scene, target, *wanted, "--cache-dir", str(target / "cache"), *more)
            shutil.rmtree(target)
            return took

        rounds, against = scene.rounds(_ROUNDS), "uv pip install from an index on loopback"
        cold, reference = in_turns(rounds, ours, lambda: uv("--compile-bytecode"), warm_up=False)
        bytecode = store.root.parent / "uv" / "bytecode"
        fetched, plain = in_turns(rounds, lambda: ours(compiled_before=bytecode), uv, warm_up=False)
    yield Row(
        "environment of a new lock, cold from the hub",
        "ms",
        milliseconds(cold),
        f"{against}, compiled",
        milliseconds(reference),
        Goal(at_most=1.3),
    )
    alone = "… fetched, unpacked and linked alone, compiled before"
    yield Row(alone, "ms", milliseconds(fetched), f"{against}, not compiled", milliseconds(plain))


def _lock_of(payload: str) -> str:
    return str(json.loads(base64.b64decode(payload))["targets"][0]["lock"])


@contextlib.contextmanager
def _local_index(scene: Scene, chosen: Chosen, store: WheelStore) -> Iterator[str]:
    """The wheels as files of an index (PEP 503), each with its metadata beside it (PEP 658), served by `http.server`."""
    folder, port = scene.fresh_folder("index"), free_port()
    for package, wheel in chosen:
        page = folder / "simple" / normalised(package.name)
        page.mkdir(parents=True)
        path = store.place(wheel)
        (page / wheel.filename).hardlink_to(path)
        metadata = _metadata(path)
        (page / f"{wheel.filename}.metadata").write_bytes(metadata)
        known = f'data-core-metadata="sha256={hashlib.sha256(metadata).hexdigest()}"'
        link = f'<a href="{wheel.filename}#sha256={wheel.sha256}" {known}>{wheel.filename}</a>'
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    log = folder / "log.txt"
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    with ended_by_pid([*command, "--protocol", "HTTP/1.1"], log=log) as process:
        url = f"http://127.0.0.1:{port}/simple"
        wait_until_it_answers(f"{url}/numpy/", process, log, timeout_s=30)
        yield url


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name)
