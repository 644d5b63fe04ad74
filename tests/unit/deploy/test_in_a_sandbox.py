"""The whole of it on real parts: a model that MLflow saved, its packages, the base, a real sandbox, an endpoint."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from insitu.deploy.drivers.contract import Places
from insitu.deploy.drivers.sandbox import SandboxDriver
from insitu.deploy.health import HealthRules
from insitu.deploy.serving_code import put_serving_code
from insitu.deploy.site_deployments import AddressSettings, SiteDeployments
from insitu.domain.deployments import DeploymentState, Desired, Observed, Resources
from insitu.domain.digests import digest_of
from insitu.sandbox.contract import SandboxSettings, open_sandbox
from insitu.sandbox.keeper_pool import KeeperPool

TABLE: Any = load_breast_cancer(as_frame=True)
PREFIX = f"insitu-test-{os.getpid()}-"  # not those of other tests that run on this machine at the same time


@pytest.fixture(scope="module")
def environment(base, tmp_path_factory) -> Path:
    """A tree for /opt/env of the packages that serve a scikit-learn model, taken from the tests' own."""
    assert base.python == f"{sys.version_info.major}.{sys.version_info.minor}", (
        "compiled packages fit one version of Python"
    )
    tree = tmp_path_factory.mktemp("environment")
    packages = tree / "lib" / f"python{base.python}" / "site-packages"
    packages.mkdir(parents=True)
    for name in requirements_of(["scikit-learn", "skops", "pandas", "pyyaml"]):
        for file in distribution(name).files or ():
            if ".." not in file.parts and "tests" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    (tree / "bin").mkdir()
    (tree / "bin/python").symlink_to(base.interpreter)
    (tree / "pyvenv.cfg").write_text(f"home = {Path(base.interpreter).parent}\n")
    for path in [tree, *tree.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    return tree


def requirements_of(names: list[str]) -> set[str]:
    found: set[str] = set()
    while names:
        name = names.pop()
        try:
            wanted = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # for another platform or version
        if name not in found:
            found.add(name)
            names += [re.split(r"[\s;<>=!~\[(]", line)[0] for line in wanted if "extra ==" not in line]
    return found


@pytest.fixture(scope="module")
def trained() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE.data, TABLE.target)


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.models import infer_signature
        from mlflow.sklearn import save_model

        signature = infer_signature(TABLE.data, trained.predict(TABLE.data))
        for name in ("skops", "cloudpickle"):
            save_model(trained, folder / name, signature=signature, serialization_format=name, pip_requirements=[])
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


class Site:
    def __init__(self, folder: Path, places: Places, name: str) -> None:
        settings = SandboxSettings(state_dir=folder / "sandboxes")
        self.sandbox = open_sandbox(name, settings)
        self.pool = KeeperPool(1, [sys.executable], settings)
        driver = SandboxDriver(
            self.pool, self.sandbox, settings, folder / "services", prefix=PREFIX, uid=215_000, gid=215_000
        )
        self.places = places
        self.parts = SiteDeployments(
            folder / "state",
            driver,
            self.prepare,
            prefix=PREFIX,
            addresses=AddressSettings(ports=range(20_000, 20_200)),
            rules=HealthRules(start_s=90),
        )

    def prepare(self, desired: Desired) -> Places:
        return Places(
            self.places.rootfs, self.places.environment, self.places.serving, self.places.model / desired.model_name
        )

    def until_settled(self, desired: Desired) -> Observed:
        deadline = time.monotonic() + 120
        while True:
            (observed,) = self.parts.reconcile([desired])
            if observed.state in (DeploymentState.HEALTHY, DeploymentState.FAILED):
                return observed
            assert time.monotonic() < deadline, observed
            time.sleep(0.05)


@pytest.fixture(params=["bubblewrap", "podman"])
def site(request, tmp_path: Path, base, environment, models) -> Iterator[Site]:
    tmp_path.chmod(0o755)
    code = put_serving_code(tmp_path / "code")
    made = Site(tmp_path, Places(base.rootfs, environment, code, models), request.param)
    yield made
    assert made.parts.stop_all(60)
    made.parts.close()
    made.pool.close()
    assert not [name for name in made.sandbox.running() if name.startswith(PREFIX)]


def wanted(model: str, revision: int = 1) -> Desired:
    digest = digest_of(b"")
    resources = Resources(cpus=1, memory_bytes=1 << 30)
    return Desired("wards", revision, model, "3", digest, digest, digest, digest, resources=resources)


def post(url: str, path: str, body: object) -> Any:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_a_model_is_served_from_a_sealed_off_place_and_nothing_is_left_after_it(site, trained):
    observed = site.until_settled(wanted("skops"))
    assert observed.state is DeploymentState.HEALTHY, observed
    expected = trained.predict(TABLE.data).tolist()
    rows = TABLE.data.to_numpy()
    split = {"dataframe_split": {"columns": list(TABLE.data.columns), "data": rows.tolist()}}
    assert post(observed.url, "/invocations", split) == {"predictions": expected}
    tensor = {"name": "table", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    reply = post(observed.url, "/v2/models/skops/infer", {"inputs": [tensor]})
    assert reply["outputs"][0]["data"] == expected


def test_a_model_that_is_refused_fails_with_the_serving_processs_own_reason(site, tmp_path):
    observed = site.until_settled(wanted("cloudpickle"))
    assert observed.state is DeploymentState.FAILED
    assert observed.problem
    assert observed.problem.code == "pickle-refused"
    (log,) = (tmp_path / "services/.logs").iterdir()
    assert "pickle-refused" in log.read_text()


def test_the_next_agent_finds_the_sandbox_of_one_that_was_killed(site, tmp_path):
    said = tmp_path / "said"
    agent = os.fork()
    if agent == 0:
        try:
            first = Site(tmp_path, site.places, site.sandbox.name)
            said.write_text(first.until_settled(wanted("skops")).url)
            first.pool.close()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(agent, 0)
    running = [name for name in site.sandbox.running() if name.startswith(PREFIX)]
    assert len(running) == 1
    site.pool.close()
    again = Site(tmp_path, site.places, site.sandbox.name)
    site.parts, site.pool = again.parts, again.pool
    observed = site.until_settled(wanted("skops"))
    assert (observed.state, observed.url) == (DeploymentState.HEALTHY, said.read_text())
    assert [path.name for path in (tmp_path / "services").iterdir()] == running
