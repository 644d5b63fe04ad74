"""What a submission signs: a lock for each kind of place that can be served, and a word on the sites that can't."""

from datetime import UTC, datetime

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import InvalidInputError
from insitu.images.locks import parse_lock
from insitu.sdk.submit import prepare_job
from insitu.wire.jobs import open_job
from insitu.wire.keys import SigningKey
from insitu.wire.people import SiteView
from insitu.wire.sync import BaseOffer
from tests.package_index import PackageIndex

JOB = "command: python x.py\nenvironment: {requirements: requirements.txt}\n"


def a_site(name: str, platform: str) -> SiteView:
    base = BaseOffer(digest=digest_of(platform.encode()), python="3.11", platform=platform)
    return SiteView(name=name, joined=True, link="online", bases=[base])


SITES = [a_site("leeds", "x86_64-linux"), a_site("ghent", "aarch64-linux")]


@pytest.fixture
def index(tmp_path):
    with PackageIndex(tmp_path / "index") as running:
        running.add("one", tag="cp311-cp311-manylinux_2_28_x86_64")
        yield running


def prepare(tmp_path, index, job=JOB):
    folder = tmp_path / "job"
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text("one\n")
    (folder / "job.yaml").write_text(job)
    return prepare_job(
        folder / "job.yaml", changes={}, sites=SITES, datasets=[], cache=tmp_path / "cache", index_url=index.simple_url
    )


def test_each_platform_has_a_lock_of_its_own_and_all_are_under_the_signature(tmp_path, index):
    index.add("one", tag="cp311-cp311-manylinux_2_28_aarch64")
    prepared = prepare(tmp_path, index)
    assert (prepared.sites, prepared.left_out) == (("leeds", "ghent"), {})
    key = SigningKey.generate()
    envelope = prepared.sign(submitter="alice", key=key, now=datetime.now(UTC))
    signed = open_job(envelope, signers={"alice": key.fingerprint}).document.targets
    for target in signed:
        [package] = parse_lock(prepared.blobs[target.lock]).packages
        assert [wheel.filename.endswith(f"{target.platform.partition('-')[0]}.whl") for wheel in package.wheels] == [
            True
        ]
    assert {target.platform for target in signed} == {"x86_64-linux", "aarch64-linux"}
    assert len({target.lock for target in signed}) == 2


def test_a_site_whose_platform_has_no_wheel_is_left_out_and_the_others_are_signed_for(tmp_path, index):
    prepared = prepare(tmp_path, index)
    assert prepared.sites == ("leeds",)
    assert [target.platform for target in prepared.targets] == ["x86_64-linux"]
    assert prepared.left_out["ghent"].what == "one has no wheel for Python 3.11 on aarch64-linux"


def test_a_job_for_that_site_alone_is_an_error_with_the_same_words(tmp_path, index):
    with pytest.raises(InvalidInputError) as failed:
        prepare(tmp_path, index, JOB + "compute: ghent\n")
    assert failed.value.what == "one has no wheel for Python 3.11 on aarch64-linux"
