"""Blobs between a real hub and a real agent's link: over wires that break, from parts that lie, for those who may."""

import os
from contextlib import closing

import pytest

from insitu.agent.hub_link import HubLink
from insitu.domain.digests import digest_of
from insitu.domain.errors import AuthenticationError, DeniedError, IntegrityError, UnreachableError
from insitu.wire.keys import SigningKey
from tests.contracts.breaking_wire import breaking_wire
from tests.unit.hub.hub_world import a_hub

LARGE = os.urandom(5 << 20)
DIGEST = digest_of(LARGE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with a_hub(tmp_path_factory.mktemp("hub")) as found:
        yield found


@pytest.fixture(scope="module")
def leeds(world):
    """A site with a job whose code is large."""
    site, alice = world.site("leeds"), world.person("alice")
    alice.put_blob(LARGE)
    assert alice.submit(code=DIGEST).status_code == 201
    site.sync()
    return site


@pytest.fixture
def wire(world):
    with breaking_wire(world.client.base_url.port) as found:
        yield found


@pytest.fixture
def link(world, leeds, wire):
    with closing(HubLink(wire.url, site="leeds", key=leeds.key, clock=world.clock)) as made:
        yield made


@pytest.fixture
def through_a_proxy(world, leeds, wire, monkeypatch):
    """A link through the client library, as an environment with a proxy has it; the wire leads to the hub itself."""
    monkeypatch.setenv("http_proxy", wire.url)
    monkeypatch.setenv("no_proxy", "")
    with closing(HubLink("http://hub.example:7400", site="leeds", key=leeds.key, clock=world.clock)) as made:
        yield made


@pytest.fixture(params=["link", "through_a_proxy"])
def any_link(request):
    return request.getfixturevalue(request.param)


def part_of(target):
    return target.with_name(f".{target.name}.part")


def a_file(tmp_path, data):
    path = tmp_path / "model"
    path.write_bytes(data)
    return path


def fresh():
    return os.urandom(5 << 20)


# -- down --------------------------------------------------------------------------------------------------------------


def test_a_blob_arrives_whole_and_leaves_no_part(any_link, tmp_path):
    any_link.fetch_blob(DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == LARGE
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


def test_a_download_goes_on_over_a_wire_that_breaks_again_and_again(any_link, wire, tmp_path):
    wire.most_bytes = 2 << 20
    any_link.fetch_blob(DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == LARGE
    assert wire.broken >= 2


def test_what_came_before_a_break_is_not_fetched_again_by_a_later_try(link, wire, tmp_path):
    part_of(tmp_path / "blob").write_bytes(LARGE[: 4 << 20])
    link.fetch_blob(DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == LARGE
    assert wire.carried < 2 << 20


def test_a_wire_on_which_nothing_comes_ends_the_try_and_keeps_the_part(any_link, wire, tmp_path):
    part_of(tmp_path / "blob").write_bytes(LARGE[:1000])
    wire.most_bytes = 100
    with pytest.raises(UnreachableError) as away:
        any_link.fetch_blob(DIGEST, tmp_path / "blob")
    assert away.value.code == "hub-unreachable"
    assert part_of(tmp_path / "blob").read_bytes() == LARGE[:1000]


@pytest.mark.parametrize("part", [LARGE, LARGE[: 3 << 20]], ids=["all-of-it", "some-of-it"])
def test_a_part_that_was_damaged_is_thrown_away_and_fetched_anew(any_link, tmp_path, part):
    damaged = b"\0" + part[1:]
    part_of(tmp_path / "blob").write_bytes(damaged)
    any_link.fetch_blob(DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == LARGE


def test_a_part_longer_than_its_blob_is_thrown_away_and_fetched_anew(link, tmp_path):
    part_of(tmp_path / "blob").write_bytes(LARGE + b"more")
    link.fetch_blob(DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == LARGE


def test_a_part_that_was_whole_already_is_taken_as_it_is(link, wire, tmp_path):
    part_of(tmp_path / "blob").write_bytes(LARGE)
    link.fetch_blob(DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == LARGE
    assert wire.carried < 10_000


def test_bytes_that_the_hub_damaged_are_not_kept(world, any_link, tmp_path):
    stored = world.parts.blobs.path(DIGEST)
    stored.write_bytes(LARGE[:-1] + b"\0")
    try:
        with pytest.raises(IntegrityError) as wrong:
            any_link.fetch_blob(DIGEST, tmp_path / "blob")
    finally:
        stored.write_bytes(LARGE)
    assert wrong.value.code == "blob-digest"
    assert not list(tmp_path.iterdir())


def test_a_stranger_gets_no_blob(world, leeds, tmp_path):
    with closing(
        HubLink(str(world.client.base_url), site="leeds", key=SigningKey.generate(), clock=world.clock)
    ) as link:
        with pytest.raises(AuthenticationError):
            link.fetch_blob(DIGEST, tmp_path / "blob")
        with pytest.raises(AuthenticationError):
            link.upload(a_file(tmp_path, LARGE), DIGEST)
    assert not (tmp_path / "blob").exists()


def test_a_neighbour_gets_no_blob_of_a_job_that_is_not_at_its_site(world, leeds, tmp_path):
    turin = world.site("turin")
    with closing(HubLink(str(world.client.base_url), site="turin", key=turin.key, clock=world.clock)) as link:
        with pytest.raises(DeniedError) as refused:
            link.fetch_blob(DIGEST, tmp_path / "blob")
    assert refused.value.code == "not-your-blob"
    assert not (tmp_path / "blob").exists()


@pytest.mark.parametrize(
    ("wanted", "status", "begin", "end"),
    [
        ("bytes=0-3", 206, 0, 4),
        ("bytes=1000000-", 206, 1_000_000, None),
        ("bytes=-5", 206, -5, None),
        ("bytes=5-99999999999", 206, 5, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("rows=0-1", 200, 0, None),
        ("bytes=-", 200, 0, None),
    ],
)
def test_one_range_is_answered_and_anything_else_gets_the_whole(leeds, wanted, status, begin, end):
    reply = leeds.call("GET", f"/agent/v1/blobs/{DIGEST}", headers={"Range": wanted})
    assert (reply.status_code, reply.content) == (status, LARGE[begin:end])
    assert reply.headers["etag"] == f'"{DIGEST}"'
    if status == 206:
        first = begin % len(LARGE)
        assert reply.headers["content-range"] == f"bytes {first}-{first + len(reply.content) - 1}/{len(LARGE)}"


@pytest.mark.parametrize("wanted", [f"bytes={len(LARGE)}-", "bytes=-0", "bytes=9-3"])
def test_a_range_without_a_byte_is_not_satisfiable(leeds, wanted):
    reply = leeds.call("GET", f"/agent/v1/blobs/{DIGEST}", headers={"Range": wanted})
    assert (reply.status_code, reply.headers["content-range"]) == (416, f"bytes */{len(LARGE)}")


def test_a_range_of_another_version_gets_the_whole(leeds):
    reply = leeds.call("GET", f"/agent/v1/blobs/{DIGEST}", headers={"Range": "bytes=0-3", "If-Range": '"older"'})
    assert (reply.status_code, len(reply.content)) == (200, len(LARGE))


# -- up ----------------------------------------------------------------------------------------------------------------


def held(world, digest):
    return world.parts.blobs.size(digest)


@pytest.mark.parametrize("size", [0, 1, 5 << 20])
def test_a_file_is_uploaded_in_one_request(world, any_link, tmp_path, size):
    data = os.urandom(size)
    any_link.upload(a_file(tmp_path, data), digest_of(data))
    assert world.parts.blobs.path(digest_of(data)).read_bytes() == data


def test_an_upload_goes_on_over_a_wire_that_breaks_again_and_again(world, any_link, wire, tmp_path):
    data = fresh()
    wire.most_bytes = 3 << 20
    any_link.upload(a_file(tmp_path, data), digest_of(data))
    assert world.parts.blobs.path(digest_of(data)).read_bytes() == data
    assert wire.broken >= 1


def test_what_the_hub_has_is_not_sent_again(world, link, wire, tmp_path):
    data = fresh()
    with world.parts.blobs.piece("leeds", digest_of(data), offset=0, length=len(data)) as piece:
        piece.write(data[: 4 << 20])
    link.upload(a_file(tmp_path, data), digest_of(data))
    link.upload(a_file(tmp_path, data), digest_of(data))
    assert held(world, digest_of(data)) == len(data)
    assert wire.carried < 2 << 20


def test_what_lay_damaged_at_the_hub_is_dropped_and_sent_anew(world, any_link, tmp_path):
    data = fresh()
    with world.parts.blobs.piece("leeds", digest_of(data), offset=0, length=len(data)) as piece:
        piece.write(b"\0" * (1 << 20))
    any_link.upload(a_file(tmp_path, data), digest_of(data))
    assert world.parts.blobs.path(digest_of(data)).read_bytes() == data


def test_a_file_that_is_not_its_digest_is_refused_and_not_kept(world, any_link, tmp_path):
    digest = digest_of(fresh())
    with pytest.raises(IntegrityError) as refused:
        any_link.upload(a_file(tmp_path, fresh()), digest)
    assert refused.value.code == "digest-mismatch"
    assert held(world, digest) is None
    assert world.parts.blobs.offset("leeds", digest) == 0
