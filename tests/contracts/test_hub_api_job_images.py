"""A job that brings its image: its parts are uploaded with it, given to its site alone, and no image is built on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.domain.digests import digest_of
from insitu.wire.jobs import NO_PACKAGES, ImagePin, Target
from insitu.wire.people import Role
from tests.unit.hub.hub_world import BASE, HubWorld, Scientist, a_hub, a_running_job

MANIFEST, CONFIG, LAYER = b"a manifest", b"a config", b"a layer"
PIN = ImagePin(digest=digest_of(MANIFEST), blobs=[digest_of(CONFIG), digest_of(LAYER)])
TARGET = Target(base=BASE, python="3.11", platform="x86_64-linux", lock=digest_of(NO_PACKAGES), image=PIN)
JOB = {"targets": [TARGET], "environment": {"image": "example.org/kitchen@" + PIN.digest}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[HubWorld]:
    with a_hub(tmp_path / "hub") as found:
        yield found


def upload(person: Scientist, *blobs: bytes) -> None:
    for blob in blobs:
        assert person.put_blob(blob).status_code == 201


def test_the_hub_says_which_parts_it_lacks(world: HubWorld) -> None:
    alice = world.person("alice")
    world.site()
    upload(alice, NO_PACKAGES, MANIFEST, CONFIG)
    reply = alice.submit(**JOB)
    assert (reply.status_code, reply.json()["missing"]) == (409, [digest_of(LAYER)])
    upload(alice, LAYER)
    assert alice.submit(**JOB).json()["state"] == "assigned"


def test_what_somebody_else_uploaded_is_not_one_s_own(world: HubWorld) -> None:
    upload(world.person("bob"), LAYER)
    alice = world.person("alice")
    upload(alice, NO_PACKAGES, MANIFEST, CONFIG)
    assert alice.submit(**JOB).json()["missing"] == [digest_of(LAYER)]


def test_a_site_gets_the_parts_of_its_own_jobs_image_while_it_has_the_job(world: HubWorld) -> None:
    alice, leeds, york = world.person("alice"), world.site(), world.site("york")
    upload(alice, NO_PACKAGES, MANIFEST, CONFIG, LAYER)
    address = f"/agent/v1/blobs/{digest_of(LAYER)}"
    assert leeds.call("GET", address).status_code == 403
    job_id = a_running_job(world, alice, leeds, **JOB, compute="leeds")
    assert leeds.call("GET", address).content == LAYER
    assert leeds.call("GET", f"/agent/v1/blobs/{PIN.digest}").content == MANIFEST
    assert york.call("GET", address).json()["code"] == "not-your-blob"
    leeds.state(job_id, "failed")
    assert leeds.call("GET", address).status_code == 403


def test_a_model_of_such_a_job_names_its_image_and_is_not_built_into_one(world: HubWorld) -> None:
    alice, leeds, mel = world.person("alice"), world.site(), world.person("mel", Role.ML_ENGINEER)
    upload(alice, NO_PACKAGES, MANIFEST, CONFIG, LAYER)
    job_id = a_running_job(world, alice, leeds, **JOB)
    leeds.state(job_id, "judging", "releasing")
    assert leeds.release(job_id, lock=digest_of(NO_PACKAGES)).status_code == 200
    version = world.tracking.version_of["breast-cancer", 1]
    assert version.tags["insitu.image"] == PIN.digest
    refused = mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1})
    assert (refused.status_code, refused.json()["code"]) == (422, "image-serving")
    assert refused.json()["measure"] == PIN.digest
    assert "requirements" in refused.json()["hint"]
