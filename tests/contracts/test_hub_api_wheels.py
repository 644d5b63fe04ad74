"""Packages through the hub: fetched once from an index, given to the sites whose jobs name them, brought where there is none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import pytest

from insitu.agent.environments import Environments, wheels_in
from insitu.agent.hub_link import HubLink
from insitu.agent.wheels import WheelsOfHub
from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.domain.images import LockedWheel
from insitu.images.bundles import BundledLock, write_bundle
from insitu.images.environment import materialise, parse_lock
from insitu.images.wheel_choice import chosen_wheels
from insitu.images.wheel_store import WheelStore
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.sdk.environment_files import Locker
from insitu.sdk.places import Place
from insitu.wire.job_file import Environment
from insitu.wire.jobs import Target
from insitu.wire.people import Role
from insitu.wire.wheels import WheelsReply
from tests.package_index import PackageIndex, a_lock, make_wheel
from tests.unit.hub.hub_world import BASE, Agent, HubWorld, Scientist, a_hub


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    with PackageIndex(tmp_path / "index") as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, index: PackageIndex) -> Iterator[HubWorld]:
    with a_hub(tmp_path / "hub", index_url=index.simple_url) as found:
        yield found


@pytest.fixture
def alice(world: HubWorld) -> Scientist:
    return world.person("alice")


@pytest.fixture
def leeds(world: HubWorld) -> Agent:
    return world.site()


def locked_job(alice: Scientist, leeds: Agent, lock: bytes) -> Digest:
    """A job at leeds with this lock; the lock's digest."""
    digest = digest_of(lock)
    assert alice.put_blob(lock).status_code == 201
    reply = alice.submit(targets=[Target(base=BASE, python="3.11", platform="x86_64-linux", lock=digest)])
    assert reply.json()["state"] == "assigned", reply.text
    leeds.sync(attempts=[leeds.holding(reply.json()["id"])])
    return digest


def ask(agent: Agent, lock: str, *wheels: LockedWheel, wait_s: float = 10) -> httpx.Response:
    body = {"lock": lock, "wanted": [wheel.sha256 for wheel in wheels], "wait_s": wait_s}
    return agent.call("POST", "/agent/v1/wheels", json=body)


def get(agent: Agent, wheel: LockedWheel) -> httpx.Response:
    return agent.call("GET", f"/agent/v1/blobs/sha256:{wheel.sha256}")


def bring(person: Scientist, wheel: LockedWheel, content: bytes) -> httpx.Response:
    return person.call("PUT", f"/api/v1/wheels/{wheel.sha256}/{wheel.filename}", content=content)


def kept(store: WheelStore, wheel: LockedWheel) -> bytes:
    """The bytes of a wheel that a store has."""
    path = store.find(wheel)
    assert path is not None
    return path.read_bytes()


def puts(raw: bytes) -> Callable[[Digest, Path], None]:
    """What gets a lock's bytes for an environment, without a hub."""

    def fetch(digest: Digest, place: Path) -> None:
        assert digest == digest_of(raw)
        place.write_bytes(raw)

    return fetch


def test_the_hub_fetches_a_wheel_once_for_all_who_ask_and_gives_it_by_its_hash(index, alice, leeds):
    path = index.add("one")
    wheel = index.locked(path)
    lock = locked_job(alice, leeds, a_lock(wheel))
    for _ in range(2):
        reply = WheelsReply.model_validate_json(ask(leeds, lock, wheel).content)
        assert (reply.here, reply.coming, reply.failed) == ([wheel.sha256], [], [])
        assert get(leeds, wheel).content == path.read_bytes()
    assert len(index.files_asked(path.name)) == 1


def test_a_site_gets_wheels_of_its_own_jobs_alone(world, index, alice, leeds):
    wheel, other = index.locked(index.add("one")), index.locked(index.add("two"))
    lock = locked_job(alice, leeds, a_lock(wheel))
    assert ask(leeds, lock, wheel).status_code == 200
    oslo = world.site("oslo")
    for reply in (ask(oslo, lock, wheel), get(oslo, wheel), ask(leeds, lock, other)):
        assert (reply.status_code, reply.json()["code"]) == (403, "not-your-blob")
    assert index.files_asked(other.filename) == []


def test_once_a_job_has_ended_its_site_gets_its_wheels_no_more(alice, leeds, index):
    wheel = index.locked(index.add("one"))
    lock = locked_job(alice, leeds, a_lock(wheel))
    ask(leeds, lock, wheel)
    leeds.state(alice.get("/api/v1/jobs").json()["items"][0]["id"], "preparing", "failed", failure="script")
    assert get(leeds, wheel).status_code == 403


@pytest.mark.parametrize(("spoil", "code"), [(True, "wheel-hash"), (False, "wheel-not-at-index")])
def test_what_the_hub_cannot_have_is_told_with_the_reason_and_what_to_do(world, index, alice, leeds, spoil, code):
    path = index.add("one")
    wheel = index.locked(path)
    content = path.read_bytes()
    index.spoilt.add(path.name) if spoil else path.unlink()
    lock = locked_job(alice, leeds, a_lock(wheel))
    [problem] = WheelsReply.model_validate_json(ask(leeds, lock, wheel).content).failed
    assert (problem.filename, problem.code) == (wheel.filename, code)
    assert problem.hint
    # Brought by hand, it is there at once: nobody waits for the index any more.
    assert bring(world.admin, wheel, content).json()["new"] is True
    assert WheelsReply.model_validate_json(ask(leeds, lock, wheel).content).here == [wheel.sha256]
    assert get(leeds, wheel).content == content


def test_only_an_admin_brings_wheels_and_each_is_checked(world, alice, tmp_path):
    path = make_wheel(tmp_path, "one")
    wheel = LockedWheel(path.name, digest_of(path.read_bytes()).removeprefix("sha256:"))
    for role in (Role.STEWARD, Role.ML_ENGINEER):
        assert bring(world.person(role.value, role), wheel, path.read_bytes()).status_code == 403
    assert bring(alice, wheel, path.read_bytes()).status_code == 403
    refused = bring(world.admin, wheel, path.read_bytes() + b"more")
    assert refused.json()["code"] == "wheel-hash"
    assert bring(world.admin, replace(wheel, filename="..%2Fone.whl"), b"").status_code in (404, 422)
    assert world.parts.wheels.store.find(wheel) is None
    assert bring(world.admin, wheel, path.read_bytes()).status_code == 201
    assert bring(world.admin, wheel, path.read_bytes()).json()["new"] is False


def test_a_bundle_is_brought_through_the_api_and_what_is_there_is_not_sent_again(world, tmp_path, index):
    store = WheelStore(tmp_path / "desk")
    wheels = [index.locked(index.add(name)) for name in ("one", "two")]
    for wheel in wheels:
        with (index.folder / wheel.filename).open("rb") as stream:
            store.put(wheel, stream)
    bundle = tmp_path / "bundle.tar"
    write_bundle(bundle, [BundledLock(a_lock(*wheels))], wheels, store)
    with contextlib.closing(
        Client(Login(str(world.client.base_url), world.admin_token), world.admin.key, cache=tmp_path / "cache")
    ) as client:
        assert set(client.bring_wheels(bundle).new) == {wheel.filename for wheel in wheels}
        again = client.bring_wheels(bundle)
    assert (again.new, len(again.known)) == ((), 2)
    assert world.parts.wheels.store.lacking(wheels) == []


def test_wheels_of_a_second_platform_are_locked_and_fetched_from_the_public_index(tmp_path):
    """For arm64, on a machine of another kind: nothing of them is run."""
    (tmp_path / "requirements.txt").write_text("markupsafe==3.0.3\n")
    place = Place("3.11", "aarch64-linux")
    raw = Locker(tmp_path / "cache").lock(Environment(requirements="requirements.txt"), tmp_path, place)
    [wheel] = [one for _, one in chosen_wheels(parse_lock(raw), python="3.11", platform="aarch64-linux")]
    assert "cp311" in wheel.filename
    assert "aarch64" in wheel.filename
    with a_hub(tmp_path / "hub") as world:  # with no index of its own: it follows the lock to PyPI's hosts
        alice, leeds = world.person("alice"), world.site()
        lock = locked_job(alice, leeds, raw)
        reply = WheelsReply.model_validate_json(ask(leeds, lock, wheel, wait_s=20).content)
        assert reply.here == [wheel.sha256], reply
        assert digest_of(get(leeds, wheel).content) == f"sha256:{wheel.sha256}"


# -- at a site ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "site-cache"


def environments(world: HubWorld, leeds: Agent, base, cache: Path, *, url: str = "") -> tuple[Environments, HubLink]:
    link = HubLink(url or str(world.client.base_url), site=leeds.name, key=leeds.key, clock=world.clock)
    wheels = WheelsOfHub(link, wheels_in(cache), pause=lambda _: None)
    return Environments(cache, base, wheels=wheels), link


@contextlib.contextmanager
def closing_link(made: tuple[Environments, HubLink]) -> Iterator[tuple[Environments, HubLink]]:
    try:
        yield made
    finally:
        made[1].close()


def contents(tree: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(tree)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_lock_never_seen_becomes_a_tree_with_no_address_but_the_hub(world, index, alice, leeds, base, cache):
    wheels = [index.locked(index.add(name)) for name in ("one", "two")]
    lock = locked_job(alice, leeds, a_lock(*wheels))
    with closing_link(environments(world, leeds, base, cache)) as (found, link):
        made = found.made(lock, link.fetch_blob)
        assert (made.tree / f"lib/python{base.python}/site-packages/two/__init__.py").is_file()
        assert made.packages == (("one", "1.0"), ("two", "1.0"))
        # Another lock with one of them: only what is lacking is fetched.
        more = index.locked(index.add("three"))
        second = locked_job(alice, leeds, a_lock(wheels[0], more))
        before = len(index.asked)
        found.made(second, link.fetch_blob)
        assert [path for path, _ in index.asked[before:] if path.startswith("/files/")] == [f"/files/{more.filename}"]


def test_hub_and_site_make_the_same_bytes_of_the_same_wheels(world, index, alice, leeds, base, cache, tmp_path):
    """What was trained is what serves: the image's environment is made from the hub's store, by the same choice."""
    wheels = [index.locked(index.add(name)) for name in ("one", "two")]
    raw = a_lock(*wheels)
    lock = locked_job(alice, leeds, raw)
    with closing_link(environments(world, leeds, base, cache)) as (found, link):
        at_site = found.made(lock, link.fetch_blob)
    store = world.parts.wheels.store
    at_hub = materialise(
        raw,
        tmp_path / "hub-environments",
        python_version=base.python,
        platform=base.platform,
        cache_dir=tmp_path / "hub-cache",
        base_rootfs=base.rootfs,
        base_digest=base.digest,
        offline=True,
        index=store.index(wheels),
    )
    assert at_hub.key == at_site.key
    assert contents(at_hub.tree) == contents(at_site.tree)
    assert {kept(wheels_in(cache), one) for one in wheels} == {kept(store, one) for one in wheels}


def test_a_transfer_that_breaks_in_the_middle_goes_on_where_it_stopped(world, index, alice, leeds, base, cache):
    path = index.add("one", padding=bytes(range(256)) * 20_000)
    wheel = index.locked(path)
    lock = locked_job(alice, leeds, a_lock(wheel))
    with BreakingRelay(str(world.client.base_url)) as relay:
        relay.break_after[f"/agent/v1/blobs/sha256:{wheel.sha256}"] = 2_000_000
        with closing_link(environments(world, leeds, base, cache, url=relay.url)) as (found, link):
            found.made(lock, link.fetch_blob)
        ranges = [ranges for asked, ranges in relay.asked if wheel.sha256 in asked]
    assert kept(wheels_in(cache), wheel) == path.read_bytes()
    assert ranges[0] == ""
    assert [int(one.removeprefix("bytes=").rstrip("-")) > 500_000 for one in ranges[1:]] == [True]


def test_a_wheel_that_a_disk_has_spoilt_is_fetched_again(world, index, alice, leeds, base, cache):
    path = index.add("one")
    wheel = index.locked(path)
    lock = locked_job(alice, leeds, a_lock(wheel))
    place = wheels_in(cache).place(wheel)
    place.write_bytes(path.read_bytes()[:-3] + b"bad")
    with closing_link(environments(world, leeds, base, cache)) as (found, link):
        found.made(lock, link.fetch_blob)
    assert place.read_bytes() == path.read_bytes()


def test_a_lock_whose_hash_nothing_has_fails_by_name_and_leaves_nothing(world, index, alice, leeds, base, cache):
    good, bad = index.locked(index.add("one")), replace(index.locked(index.add("two")), sha256="ab" * 32)
    lock = locked_job(alice, leeds, a_lock(good, bad))
    with closing_link(environments(world, leeds, base, cache)) as (found, link):
        with pytest.raises(NotFoundError) as failed:
            found.made(lock, link.fetch_blob)
        assert failed.value.what == f"the hub can't get {bad.filename}"
        assert "wheel-hash" in failed.value.measure
    assert not list((cache / "environments").glob("[0-9a-f]*"))
    assert wheels_in(cache).find(bad) is None


def test_a_lock_for_another_platform_is_refused_by_the_package_that_has_no_wheel(
    world, index, alice, leeds, base, cache
):
    wheel = index.locked(index.add("one", tag="cp311-cp311-win_amd64"))
    lock = locked_job(alice, leeds, a_lock(wheel))
    with closing_link(environments(world, leeds, base, cache)) as (found, link):
        with pytest.raises(InvalidInputError, match=f"one==1.0 has no wheel for Python {base.python}"):
            found.made(lock, link.fetch_blob)
    assert index.asked == []


def test_a_site_that_a_bundle_was_brought_to_asks_nobody(world, leeds, index, base, cache):
    wheel = index.locked(index.add("one"))
    raw = a_lock(wheel)
    with (index.folder / wheel.filename).open("rb") as stream:
        wheels_in(cache).put(wheel, stream)
    offline = Environments(cache, base, offline=True)
    made = offline.made(digest_of(raw), puts(raw))
    assert made.packages == (("one", "1.0"),)
    other = a_lock(index.locked(index.add("two")))
    with pytest.raises(NotFoundError) as refused:
        offline.made(digest_of(other), puts(other))
    assert "insitu env import" in refused.value.hint


class BreakingRelay:
    """A proxy between an agent and its hub that cuts an answer off after so many bytes, once for each address."""

    def __init__(self, hub: str) -> None:
        self._hub = urlsplit(hub)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.break_after: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, run, *arguments) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._listening.accept()[0])

    def _serve(self, near: socket.socket) -> None:
        """One request after the other, each with a connection of its own to the hub."""
        with near, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = near.recv(65536)
                if not piece:
                    return
                head += piece
            path = head.split(b" ", 2)[1].decode()
            lines = head.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
            said = dict(line.split(": ", 1) for line in lines[1:])
            self.asked.append((path, said.get("range", "")))
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < int(said.get("content-length", "0")):
                body += near.recv(65536)
            with socket.create_connection((self._hub.hostname or "", self._hub.port or 80)) as far:
                kept = [line for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n") if b"onnection:" not in line]
                far.sendall(b"\r\n".join([*kept, b"Connection: close", b"", b""]) + body)
                room = self.break_after.pop(path, None)
                while piece := far.recv(65536):
                    near.sendall(piece if room is None else piece[:room])
                    room = None if room is None else room - len(piece)
                    if room is not None and room <= 0:
                        return
