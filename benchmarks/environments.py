"""Putting a lock's packages ready: found again, and new from a warm cache.

A lock that was seen before should cost about what mounting its tree costs, by the
same tools that a person has. A new one should cost about what uv alone takes to
install the same lock and compile it. uv compiles each time, we keep bytecode by
the wheel: so uv without compiling is shown too, which is less than both do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Goal, Row, in_turns, milliseconds, seconds
from benchmarks.scene import LARGE, Scene
from insitu.images.locks import find_uv

_ROUNDS = 5
_CHEAP_ROUNDS = 21


def measure(scene: Scene) -> Iterator[Row]:
    tree = scene.environment(LARGE).tree  # also fills the caches that "warm" means
    place = scene.fresh_folder("mounted")
    seen, mounted = in_turns(
        scene.rounds(_CHEAP_ROUNDS),
        lambda: seconds(lambda: scene.environment(LARGE)),
        lambda: seconds(lambda: _mount_read_only(tree, place)),
    )
    yield Row(
        "environment of a lock seen before",
        "ms",
        milliseconds(seen),
        "a read-only bind mount, and its end",
        milliseconds(mounted),
        Goal(at_most=2.0),
    )
    rounds, figure = scene.rounds(_ROUNDS), "environment of a new lock, warm cache"
    # Without a warm-up: the caches are warm, and uv compiles for seconds each time.
    new, installed = in_turns(rounds, lambda: _new(scene), lambda: _uv(scene, compile_bytecode=True), warm_up=False)
    yield Row(figure, "ms", milliseconds(new), "uv pip install, compiled", milliseconds(installed), Goal(at_most=1.2))
    again, copied = in_turns(rounds, lambda: _new(scene), lambda: _uv(scene, compile_bytecode=False), warm_up=False)
    yield Row(figure, "ms", milliseconds(again), "uv pip install, not compiled", milliseconds(copied))


def _mount_read_only(tree: Path, place: Path) -> None:
    subprocess.run(["mount", "--bind", str(tree), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _new(scene: Scene) -> float:
    target = scene.fresh_folder("environments")
    took = seconds(lambda: scene.environment(LARGE, target))
    _remove(target)
    return took


def _uv(scene: Scene, *, compile_bytecode: bool) -> float:
    target = scene.fresh_folder("uv")
    lock = target / "pylock.toml"
    lock.write_bytes(scene.lock(LARGE))
    command = [str(find_uv()), "pip", "install", "--requirement", str(lock), "--target", str(target / "packages")]
    command += ["--python", sys.executable, "--python-version", scene.base.python, "--offline", "--no-config"]
    command += ["--cache-dir", str(scene.packages / "uv"), "--link-mode", "hardlink", "--quiet"]
    command += ["--compile-bytecode"] if compile_bytecode else []
    took = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    _remove(target)
    return took


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
