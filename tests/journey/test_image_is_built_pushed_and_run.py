"""A released model becomes an image, is pushed, comes back by other people's tools, and answers in a container.

Real parts: a base of Debian packages, wheels by uv, docker-registry, skopeo, Podman.
"""

import importlib.metadata
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io as skops_io

from insitu.domain.digests import digest_of_file
from insitu.domain.errors import NotFoundError, UnreachableError
from insitu.domain.images import Image
from insitu.images.base import UnpackedBase, import_base
from insitu.images.build import build_image
from insitu.images.environment import Environment, lock_requirements, materialise
from insitu.images.layout import OciLayout
from insitu.images.push import pull_image, push_image
from insitu.images.recipe import Recipe
from insitu.images.registry import RegistrySettings
from tests.journey.in_podman import ASK, run
from tests.services import Registry, cache_folder, program

DATA, TARGET = load_breast_cancer(return_X_y=True)
ROWS = np.asarray(DATA)[:5]


@pytest.fixture(scope="module")
def environment(base: UnpackedBase) -> Environment:
    versions = {name: importlib.metadata.version(name) for name in ("scikit-learn", "skops")}
    wanted = "".join(f"{name}=={version}\n" for name, version in versions.items())
    lock = lock_requirements(wanted, python=base.python, platform=base.platform)
    return materialise(
        lock,
        cache_folder() / "environments",
        python_version=base.python,
        platform=base.platform,
        cache_dir=cache_folder() / "packages",
        base_rootfs=base.rootfs,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    trained = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(DATA, TARGET)
    skops_io.dump(trained, folder / "model.skops")
    version = importlib.metadata.version("scikit-learn")
    flavor = {"pickled_model": "model.skops", "serialization_format": "skops", "sklearn_version": version}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": flavor, "python_function": {}}}))
    (folder / "expected.json").write_text(json.dumps(trained.predict(ROWS).tolist()))
    return folder


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, base: UnpackedBase, base_layout: Path) -> OciLayout:
    found = OciLayout(tmp_path_factory.mktemp("layout"))
    import_base(found, f"oci:{base_layout}@{base.digest}")
    return found


@pytest.fixture(scope="module")
def recipe(base: UnpackedBase, environment: Environment, model: Path) -> Recipe:
    return Recipe(
        base=base.digest,
        lock=environment.lock,
        environment_key=environment.key,
        model_name="breast-cancer",
        model_version="1",
        model_digest=digest_of_file(model / "MLmodel"),
        platform=base.platform,
        job_id="j-test",
    )


@pytest.fixture(scope="module")
def image(recipe: Recipe, layout: OciLayout, environment: Environment, model: Path) -> Image:
    return build_image(recipe, layout, environment=environment, model=model)


def test_same_parts_give_the_same_digest_in_another_layout(
    tmp_path, base, base_layout, recipe, environment, model, image
):
    other = OciLayout(tmp_path / "other")
    import_base(other, f"oci:{base_layout}@{base.digest}")
    again = build_image(recipe, other, environment=environment, model=model)
    assert (again.digest, again.layers) == (image.digest, image.layers)


def test_a_new_model_version_packs_the_model_alone(layout, recipe, environment, model, image, tmp_path):
    changed = shutil.copytree(model, tmp_path / "model")
    (changed / "note.txt").write_text("second version")
    second = build_image(replace(recipe, model_version="2"), layout, environment=environment, model=changed)
    assert second.layers[:-1] == image.layers[:-1]
    assert second.layers[-1] != image.layers[-1]
    assert second.reused_layers == len(second.layers) - 2  # serving and model are packed each time: they are small


def test_an_image_without_a_base_is_refused(recipe, environment, model, tmp_path):
    empty = OciLayout(tmp_path / "empty")
    with pytest.raises(NotFoundError) as refused:
        build_image(recipe, empty, environment=environment, model=model)
    assert refused.value.code == "no-base"
    assert "make base-image" in refused.value.hint
    assert empty.list() == []


def test_pushed_image_comes_back_by_skopeo_with_the_same_digest(layout, image, registry: Registry, tmp_path):
    destination = f"{registry.host}/models/breast-cancer:1"
    pushed = push_image(layout, image.reference, destination)
    assert pushed.digest == image.digest
    skopeo = program("skopeo", "skopeo")
    inspected = json.loads(run(skopeo, "inspect", "--tls-verify=false", f"docker://{destination}"))
    assert inspected["Digest"] == image.digest
    assert inspected["Labels"]["org.insitu.model.name"] == "breast-cancer"
    assert inspected["Labels"]["org.opencontainers.image.base.digest"]
    run(skopeo, "copy", "--src-tls-verify=false", f"docker://{destination}", f"oci:{tmp_path / 'back'}:1")
    assert OciLayout(tmp_path / "back", create=False).resolve("1").digest == image.digest


def test_pushing_again_sends_nothing(layout, image, registry: Registry):
    destination = f"{registry.host}/models/again:1"
    first = push_image(layout, image.reference, destination)
    assert first.sent_blobs == len(image.layers) + 1
    second = push_image(layout, image.reference, destination)
    assert (second.sent_blobs, second.sent_bytes, second.manifest_sent) == (0, 0, False)


def test_layers_of_a_neighbouring_repository_are_mounted_not_sent(layout, image, registry: Registry):
    push_image(layout, image.reference, f"{registry.host}/models/first:1")
    seen = push_image(layout, image.reference, f"{registry.host}/models/second:1", mount_from="models/first")
    assert (seen.sent_blobs, seen.manifest_sent) == (0, True)


def test_a_base_pulled_by_digest_is_the_same_base(base, layout, registry: Registry, tmp_path):
    push_image(layout, base.digest, f"{registry.host}/bases/debian:12")
    other = OciLayout(tmp_path / "other")
    found = import_base(other, f"{registry.host}/bases/debian@{base.digest}")
    assert found.digest == base.digest
    assert pull_image(other, f"{registry.host}/bases/debian@{base.digest}") == base.digest


def test_a_registry_that_is_away_is_said_so(layout, image, free_port):
    settings = RegistrySettings(attempts=2, pause=lambda _: None)
    with pytest.raises(UnreachableError) as away:
        push_image(layout, image.reference, f"127.0.0.1:{free_port()}/models/x:1", settings=settings)
    assert away.value.code == "registry-unreachable"


def test_image_answers_in_podman_without_network_privileges_or_a_writable_root(podman, layout, image, model):
    name = podman("pull", "--quiet", f"oci:{layout.path}:{image.reference}").strip()
    sealed = ["--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
    container = podman("run", "--detach", *sealed, name).strip()
    assert podman("inspect", "--format={{.State.Running}}", container).strip() == "true", podman("logs", container)
    ask = ASK.replace("BODY", json.dumps({"inputs": np.asarray(ROWS).tolist()}))
    answer = json.loads(podman("exec", container, "/opt/env/bin/python", "-c", ask))
    assert answer["predictions"] == json.loads((model / "expected.json").read_text())
    assert podman("exec", container, "id", "-u").strip() == "65532"
