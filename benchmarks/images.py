"""An image of a model: all of it new, and a new version of the model alone. The reference is buildah on the same parts.

Ours goes into an OCI layout, its layers compressed as they would be pushed; so does
buildah's. Base and environment are unpacked on this machine in both cases, as they
are for whoever builds at all.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Goal, Row, in_turns, milliseconds, seconds
from benchmarks.scene import MIDDLE, Scene
from insitu.domain.digests import digest_of
from insitu.images.build import build_image
from insitu.images.environment import Environment
from insitu.images.layout import REF_NAME, OciLayout
from insitu.images.recipe import Recipe

_ROUNDS = 5
_MODEL_BYTES = 200_000


def measure(scene: Scene) -> Iterator[Row]:
    ours = _Ours(scene)
    if shutil.which("buildah") is None:
        yield Row("image", "ms", (), failed="buildah is not installed", goal=Goal(at_most=0.3))
        return
    theirs = _Buildah(scene, ours.environment)
    try:
        new, other = in_turns(scene.rounds(_ROUNDS), ours.all_new, theirs.all_new, warm_up=False)
        against = "buildah: copy, commit to a layout"
        yield Row("image, all new", "ms", milliseconds(new), against, milliseconds(other), Goal(at_most=0.3))
        new, other = in_turns(scene.rounds(_ROUNDS), ours.new_model, theirs.new_model, warm_up=False)
        goal = Goal(at_most=0.02)
        yield Row("image, only the model is new", "ms", milliseconds(new), against, milliseconds(other), goal)
    finally:
        theirs.clear()


def _a_model(folder: Path, number: int) -> Path:
    """As large as a small pipeline; other bytes for each number."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    seed = number.to_bytes(4, "big")
    (folder / "model.skops").write_bytes((seed * (_MODEL_BYTES // 4))[:_MODEL_BYTES])
    return folder


class _Ours:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.environment: Environment = scene.environment(MIDDLE)
        self._number = 0
        self._layout = self._with_base()

    def all_new(self) -> float:
        self._layout = self._with_base()
        return self.new_model()

    def new_model(self) -> float:
        self._number += 1
        model = _a_model(self._scene.folder / "model", self._number)
        recipe = Recipe(
            base=self._scene.base.digest,
            lock=self.environment.lock,
            environment_key=self.environment.key,
            model_name="bench",
            model_version=str(self._number),
            model_digest=digest_of((model / "model.skops").read_bytes()),
        )
        return seconds(lambda: build_image(recipe, self._layout, environment=self.environment, model=model))

    def _with_base(self) -> OciLayout:
        folder = self._scene.fresh_folder("layout") / "layout"
        subprocess.run(["cp", "--archive", "--link", str(self._scene.base_layout), str(folder)], check=True)
        return OciLayout(folder)


class _Buildah:
    """Its storage is in our folder, and ends with it."""

    def __init__(self, scene: Scene, environment: Environment) -> None:
        self._scene, self._environment = scene, environment
        folder = scene.fresh_folder("buildah")
        self._layout, self._number = folder / "layout", 0
        self._program = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        # Its own names for images have no room for ours.
        base = f"oci:{folder / 'base'}:base"
        subprocess.run(["skopeo", "copy", "--quiet", _named(scene), base], check=True)
        self._run("rm", self._run("from", "--name", "base", base))
        self._base = self._run("images", "--quiet").split()[0]
        self._with_environment = ""

    def all_new(self) -> float:
        """Environment and model on the base."""
        shutil.rmtree(self._layout, ignore_errors=True)
        return seconds(self._add_environment) + self.new_model()

    def new_model(self) -> float:
        self._number += 1
        model = _a_model(self._scene.folder / "model", 1_000_000 + self._number)
        return seconds(lambda: self._add_model(model))

    def clear(self) -> None:
        self._run("rm", "--all")
        self._run("rmi", "--all", "--force")

    def _add_environment(self) -> None:
        container = self._run("from", self._base)
        self._run("copy", "--quiet", container, str(self._environment.tree), "/opt/env")
        self._with_environment = self._run("commit", "--quiet", "--rm", container, f"bench-{self._number}")

    def _add_model(self, model: Path) -> None:
        container = self._run("from", self._with_environment)
        self._run("copy", "--quiet", container, str(model), "/opt/model")
        target = f"oci:{self._layout}:bench-{self._number}"
        self._run("commit", "--quiet", "--rm", "--disable-compression=false", container, target)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._program, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"buildah {arguments[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()


def _named(scene: Scene) -> str:
    layout = OciLayout(scene.base_layout)
    entry = next(entry for entry in layout.list() if entry.digest == scene.base.digest)
    return f"oci:{layout.path}:{entry.annotations[REF_NAME]}"
