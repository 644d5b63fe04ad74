"""A job whose environment is an OCI image: by digest, from a layout or a registry, where the site's policy lists it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.images.base import layers_of
from insitu.images.layout import OciLayout
from insitu.images.push import push_image
from insitu.wire.people import JobView
from tests.image_maker import make_image, only_image, tar_of
from tests.rig import World, running_world
from tests.services import Registry

LIBRARY = "usr/lib/python3/dist-packages/lentils.py"
SCRIPT = """
import csv, glob, os, sys
import lentils
with open(glob.glob(os.environ["INSITU_INPUT_PATIENTS"] + "/*.csv")[0]) as stream:
    rows = sum(1 for _ in csv.DictReader(stream))
assert rows == 569 and not os.listdir("/opt/env"), rows
print("read with", lentils.NAME, "by", os.environ["KITCHEN"])
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> tuple[OciLayout, str]:
    """The base with a library of its own that no lock could name."""
    layout = OciLayout(tmp_path_factory.mktemp("image") / "layout")
    library = tar_of({LIBRARY: b'NAME = "lentils"\n'})
    env = ("PATH=/usr/local/bin:/usr/bin:/bin", "KITCHEN=ours", "INSITU_JOB_ID=another")
    return layout, make_image(layout, library, below=only_image(base_layout), env=env)


@pytest.fixture(scope="module")
def bubblewrap_world(
    tmp_path_factory: pytest.TempPathFactory, base_layout: Path, image: tuple[OciLayout, str]
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("w")
    # A cache of its own: what the tests are about is how an image gets to a site that never had it.
    with running_world(folder, base_layout, site_cache=folder / "cache") as world:
        world.write_policy(images=f"[{image[1]}]")
        yield world


def run(world: World, reference: str, script: str = SCRIPT) -> JobView:
    folder = world.job_folder(script)
    text = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(text.replace("{requirements: requirements.txt}", f'{{image: "{reference}"}}'))
    job = world.alice.submit(folder / "job.yaml")
    return world.alice.wait(job.id, timeout_s=90)


def test_a_job_runs_in_its_image(bubblewrap_world: World, image: tuple[OciLayout, str]) -> None:
    world = bubblewrap_world
    job = run(world, f"oci:{image[0].path}@{image[1]}")
    assert job.state == "succeeded", (job.reason, world.log_text(job.id), world.logs())
    assert world.log_text(job.id) == "read with lentils by ours"
    # Its parts are not kept beside what they unpack to, and once more costs no transfer.
    left = list((world.folder / "cache/images/layout/blobs/sha256").iterdir())
    assert [path.name for path in left] == [image[1].removeprefix("sha256:")]
    assert run(world, f"oci:{image[0].path}@{image[1]}").state == "succeeded"


def test_where_the_image_lay_is_not_told(bubblewrap_world: World, image: tuple[OciLayout, str]) -> None:
    prepared = bubblewrap_world.alice.prepare(_job_file(bubblewrap_world, f"oci:{image[0].path}@{image[1]}"))
    assert prepared.job.environment.image == image[1]
    assert str(image[0].path) not in repr(prepared.job)


def test_a_job_runs_in_podman_in_an_image_of_a_registry(
    tmp_path_factory: pytest.TempPathFactory, base_layout: Path, image: tuple[OciLayout, str], registry: Registry
) -> None:
    push_image(image[0], "test:1", f"{registry.host}/kitchen/lentils:1")
    with running_world(tmp_path_factory.mktemp("w"), base_layout, sandbox="podman") as world:
        world.write_policy(images=f"[{image[1]}]")
        job = run(world, f"{registry.host}/kitchen/lentils@{image[1]}")
        assert job.state == "succeeded", (job.reason, world.log_text(job.id), world.logs())
        assert world.log_text(job.id) == "read with lentils by ours"


def test_an_image_that_the_policy_does_not_list_is_not_even_fetched(
    bubblewrap_world: World, tmp_path: Path, base_layout: Path
) -> None:
    layout = OciLayout(tmp_path / "layout")
    other = make_image(layout, tar_of({LIBRARY: b'NAME = "others"\n'}), below=only_image(base_layout))
    job = run(bubblewrap_world, f"oci:{layout.path}@{other}")
    assert (job.state, job.reason.code, job.reason.rule) == ("refused", "image-not-accepted", "images")
    assert job.reason.measure == other
    assert "policy.yaml" in job.reason.hint
    assert not (bubblewrap_world.folder / "cache/images/layout/blobs/sha256" / other.removeprefix("sha256:")).exists()


def test_an_image_without_python_says_so(bubblewrap_world: World, tmp_path: Path, image: tuple[OciLayout, str]) -> None:
    layout = OciLayout(tmp_path / "layout")
    bare = make_image(layout, tar_of({"bin/tool": b"x"}))
    bubblewrap_world.write_policy(images=f"[{image[1]}, {bare}]")
    job = run(bubblewrap_world, f"oci:{layout.path}@{bare}")
    assert (job.state, job.failure, job.reason.code) == ("failed", "environment", "image-python")
    assert "python3" in job.reason.limit
    assert job.reason.hint


@pytest.mark.parametrize("reference", ["docker.io/library/python:3.11", "python:3.11-slim", "host/name@sha256:abc"])
def test_an_image_by_its_tag_is_refused_with_how_to_get_the_digest(bubblewrap_world: World, reference: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        bubblewrap_world.alice.prepare(_job_file(bubblewrap_world, reference))
    assert refused.value.code == "image-digest"
    assert "skopeo inspect" in refused.value.hint


def test_a_digest_that_nothing_has_is_named(bubblewrap_world: World, image: tuple[OciLayout, str]) -> None:
    other = "sha256:" + "0" * 64
    with pytest.raises(NotFoundError, match=other):
        bubblewrap_world.alice.prepare(_job_file(bubblewrap_world, f"oci:{image[0].path}@{other}"))


def test_a_damaged_layer_does_not_get_past_the_hub(bubblewrap_world: World, tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "layout")
    digest = make_image(layout, tar_of({"usr/bin/python3": b"#!"}))
    layer = layout.blob_path(layers_of(layout.manifest(digest))[0].digest)
    layer.write_bytes(layer.read_bytes() + b"x")
    with pytest.raises(Exception, match="digest") as refused:
        bubblewrap_world.alice.submit(_job_file(bubblewrap_world, f"oci:{layout.path}@{digest}"))
    assert refused.value.hint  # type: ignore[attr-defined]


def _job_file(world: World, reference: str) -> Path:
    folder = world.job_folder(SCRIPT)
    text = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(text.replace("{requirements: requirements.txt}", f'{{image: "{reference}"}}'))
    return folder / "job.yaml"
