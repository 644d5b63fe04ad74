"""The smoke prediction: one sandbox in which a model as written and its canonical copy predict the same rows.

The reference is what can't be saved: a bare sandbox that imports the same libraries.
Both predictions share one process, so the libraries are imported once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Goal, Row, in_turns, milliseconds
from benchmarks.programs import run_timed
from benchmarks.scene import LARGE, Scene, bare_bwrap
from insitu.deploy.serving_code import put_serving_code
from insitu.sandbox.contract import SandboxSettings
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.keeper_pool import KeeperPool
from insitu.sandbox.spec import Limits, Mount, SandboxSpec

_ROUNDS = 7
_UNTIL_READY_AGAIN_S = 1.2
_UID = 210_901  # of nobody else here
_LIMITS = Limits(memory_bytes=2 << 30, cpus=2.0, processes=64, wall_s=60, scratch_bytes=1 << 28)
_IMPORTS = "import numpy, yaml, sklearn.linear_model, sklearn.pipeline, sklearn.preprocessing, skops.io; print(1)"
_TRAINS = """
import json, os, numpy, skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows = numpy.random.default_rng(0).normal(size=(500, 30))
numpy.save('/tmp/made/rows.npy', rows)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 0)
os.mkdir('/tmp/made/model')
skops.io.dump(model, '/tmp/made/model/model.skops')
flavors = {'sklearn': {'pickled_model': 'model.skops', 'serialization_format': 'skops'}}
open('/tmp/made/model/MLmodel', 'w').write(json.dumps({'flavors': flavors}))
"""


def measure(scene: Scene) -> Iterator[Row]:
    tree = scene.environment(LARGE).tree
    made = scene.fresh_folder("smoke")
    train = bare_bwrap(
        scene.base, tree, ("/opt/env/bin/python", "-c", _TRAINS), "--tmpfs", "/tmp", "--bind", str(made), "/tmp/made"
    )
    subprocess.run(train, check=True, capture_output=True, env={**os.environ, "HOME": "/tmp"})
    data = made / "data"
    data.mkdir()
    (made / "rows.npy").rename(data / "rows.npy")
    asked = _Asked(scene, tree, made)
    bare = bare_bwrap(scene.base, tree, ("/opt/env/bin/python", "-c", _IMPORTS))
    try:
        ours, theirs = in_turns(scene.rounds(_ROUNDS), asked.once, lambda: run_timed(bare).end_s)
    finally:
        asked.pool.close()
    against = "bare bwrap that imports the same libraries"
    yield Row(
        "smoke prediction, small model", "ms", milliseconds(ours), against, milliseconds(theirs), Goal(at_most=1.5)
    )


class _Asked:
    """Asks both forms of the model, as the agent does it."""

    def __init__(self, scene: Scene, tree: Path, made: Path) -> None:
        self._scene, self._number = scene, 0
        self._settings = SandboxSettings(state_dir=scene.fresh_folder("sandbox"))
        self._mounts = (
            Mount(tree, "/opt/env"),
            Mount(put_serving_code(scene.fresh_folder("code")), "/smoke/code"),
            Mount(made / "model", "/smoke/written"),
            Mount(made / "model", "/smoke/copy"),
            Mount(made / "data", "/job/inputs/data"),
        )
        self.pool = KeeperPool(1, [sys.executable], self._settings, "bubblewrap")
        time.sleep(_UNTIL_READY_AGAIN_S)

    def once(self) -> float:
        """Seconds from the request to the answer."""
        self._number += 1
        folder = self._scene.fresh_folder("ask")
        answer = folder / "answer"
        answer.mkdir()
        words = "python -P -m insitu.serving.smoke --written /smoke/written --copy /smoke/copy --data /job/inputs/data"
        spec = SandboxSpec(
            name=f"smoke-{os.getpid()}-{self._number}",
            rootfs=self._scene.base.rootfs,
            argv=(*words.split(), "--rows", "100", "--out", "/smoke/answer/answer.json"),
            env={"PATH": "/opt/env/bin:/usr/bin:/bin", "PYTHONPATH": "/smoke/code", "LANG": "C.UTF-8"},
            workdir="/",
            mounts=(*self._mounts, Mount(answer, "/smoke/answer", writable=True)),
            limits=_LIMITS,
            uid=_UID,
            gid=_UID,
        )
        begun = time.perf_counter()
        result = self.pool.start(KeeperRequest(spec, "bubblewrap", folder / "keeper", self._settings)).wait(60)
        took = time.perf_counter() - begun
        said = json.loads((answer / "answer.json").read_text())
        if said != {"rows": 100, "differ": 0}:
            raise RuntimeError(f"the models were not compared: {said}, {result}")
        time.sleep(_UNTIL_READY_AGAIN_S)
        return took
