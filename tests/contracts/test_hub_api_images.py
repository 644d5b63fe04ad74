"""The hub builds an image of a released model on the real base, and pushes it to a real registry."""

import urllib.request
from dataclasses import replace

import pytest

from insitu.domain.digests import digest_of
from insitu.hub.loops import build_images
from insitu.images.layout import OciLayout
from insitu.wire.jobs import Target
from insitu.wire.people import Role
from insitu.wire.sync import BaseOffer
from tests.unit.hub import hub_world
from tests.unit.hub.hub_world import a_hub

EMPTY_LOCK = b'lock-version = "1.0"\ncreated-by = "a test"\nrequires-python = ">=3.11"\npackages = []\n'


@pytest.fixture
def released(tmp_path, base_layout, base, monkeypatch):
    """A hub with a model that was trained on the real base with a lock that installs nothing."""
    monkeypatch.setattr(hub_world, "LOCK_BYTES", EMPTY_LOCK)
    monkeypatch.setattr(hub_world, "LOCK", digest_of(EMPTY_LOCK))
    monkeypatch.setattr(hub_world, "BASE", base.digest)
    with a_hub(tmp_path / "hub", base_layout=base_layout) as world:
        alice, leeds = world.person("alice"), world.site()
        leeds.sync(bases=[BaseOffer(digest=base.digest, python=base.python, platform=base.platform)])
        target = Target(base=base.digest, python=base.python, platform=base.platform, lock=digest_of(EMPTY_LOCK))
        hub_world.a_running_job(world, alice, leeds, targets=[target])
        job_id = alice.get("/api/v1/jobs").json()["items"][0]["id"]
        assert leeds.release(job_id).status_code == 200
        yield world


def build(world, **request):
    mel = world.person("mel", Role.ML_ENGINEER)
    asked = mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1, **request})
    assert asked.status_code == 202, asked.text
    build_images.step(world.parts)
    return mel.get(f"/api/v1/images/{asked.json()['id']}").json()


def test_an_image_is_built_and_pushed_and_its_digest_is_the_same_everywhere(released, registry):
    world = released
    # Settings are frozen, and the registry of this test was not there when the hub started.
    object.__setattr__(world.parts, "settings", replace(world.settings, registry=registry.url))
    image = build(world)
    assert (image["state"], image["pushed"]) == ("ready", True), image
    assert image["reference"] == f"{registry.host}/breast-cancer:1"
    layout = OciLayout(world.settings.images)
    assert digest_of(layout.read(image["digest"])) == image["digest"]
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"{registry.url}/v2/breast-cancer/manifests/1", headers=accept)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert digest_of(answer.read()) == image["digest"]


def test_a_registry_that_is_away_costs_the_push_and_not_the_image(released, free_port):
    world = released
    object.__setattr__(world.parts, "settings", replace(world.settings, registry=f"http://127.0.0.1:{free_port()}"))
    image = build(world)
    assert (image["state"], image["pushed"]) == ("ready", False)
    assert image["reason"]["what"]
    # Without a registry it is ready too; asked to push again later, nothing is built anew.
    object.__setattr__(world.parts, "settings", world.settings)
    again = build(world)
    assert (again["digest"], again["reason"]["code"]) == (image["digest"], "no-registry")
    assert build(world, push=False)["state"] == "ready"
