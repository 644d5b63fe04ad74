"""Wheels by their hash: whole or not there, and where a download broke off it goes on."""

import contextlib

import pytest

from insitu.domain.errors import DeniedError, IntegrityError, NotFoundError, UnreachableError
from insitu.domain.images import LockedWheel
from insitu.images.wheel_download import WheelDownload, WheelSource
from insitu.images.wheel_store import WheelStore
from tests.package_index import PackageIndex, locked, make_wheel


@pytest.fixture
def store(tmp_path):
    return WheelStore(tmp_path / "store")


@pytest.fixture
def index(tmp_path):
    with PackageIndex(tmp_path / "index") as running:
        yield running


@pytest.fixture
def download(index):
    with contextlib.ExitStack() as ends:

        def open_one(**changes) -> WheelDownload:
            fields = {"index_url": index.simple_url, "hosts": None, "pause": lambda _: None}
            opened = WheelDownload(WheelSource(**{**fields, **changes}))
            ends.callback(opened.close)
            return opened

        yield open_one


def test_a_wheel_is_found_by_its_hash_whatever_a_lock_calls_it(store, tmp_path):
    path = make_wheel(tmp_path, "one")
    wheel = locked(path)
    with path.open("rb") as stream:
        store.put(wheel, stream)
    other = LockedWheel("one-1.0-1-py3-none-any.whl", wheel.sha256)
    assert store.find(other).read_bytes() == path.read_bytes()
    assert store.find(LockedWheel(wheel.filename, "0" * 64)) is None


def test_other_bytes_than_the_hash_says_are_not_kept(store, tmp_path):
    path = make_wheel(tmp_path, "one")
    wheel = LockedWheel(path.name, "ab" * 32)
    with path.open("rb") as stream, pytest.raises(IntegrityError, match="is not what the lock says"):
        store.put(wheel, stream)
    assert store.find(wheel) is None
    assert list((store.root / "incoming").iterdir()) == []


def test_uv_is_shown_the_chosen_wheels_and_nothing_else(store, tmp_path):
    wheels = [locked(make_wheel(tmp_path, name)) for name in ("one", "two")]
    for wheel in wheels:
        with (tmp_path / wheel.filename).open("rb") as stream:
            store.put(wheel, stream)
    shown = store.index(wheels[:1])
    assert shown.no_index
    assert shown.find_links == (str(store.find(wheels[0]).parent),)


def test_what_was_damaged_on_disk_is_dropped_and_only_that(store, tmp_path):
    wheels = [locked(make_wheel(tmp_path, name)) for name in ("one", "two")]
    for wheel in wheels:
        with (tmp_path / wheel.filename).open("rb") as stream:
            store.put(wheel, stream)
    store.find(wheels[0]).write_bytes(b"")
    assert store.drop_damaged(wheels) == wheels[:1]
    assert store.lacking(wheels) == wheels[:1]


def test_a_download_that_breaks_goes_on_where_it_stopped(store, index, download):
    path = index.add("one", padding=bytes(200_000))
    wheel = index.locked(path)
    index.breaks[path.name] = 150_000
    download().fetch(wheel, store)
    assert store.find(wheel).read_bytes() == path.read_bytes()
    first, second = index.files_asked(path.name)
    assert first == ""
    assert second.startswith("bytes=")
    assert int(second.removeprefix("bytes=").rstrip("-")) > 0


def test_what_came_of_a_download_that_failed_for_good_is_used_by_the_next_try(store, index, download):
    path = index.add("one", padding=bytes(300_000))
    wheel = index.locked(path)
    gave_up = download(pause=lambda _: index.breaks.update({path.name: 1000}))
    index.breaks[path.name] = 200_000
    with pytest.raises(UnreachableError, match="could not be fetched"):
        gave_up.fetch(wheel, store)
    index.breaks.clear()
    download().fetch(wheel, store)
    assert index.files_asked(path.name)[-1].startswith("bytes=20")
    assert store.find(wheel) is not None


def test_an_index_that_serves_other_bytes_is_told_from_one_that_is_away_and_nothing_is_kept(store, index, download):
    path = index.add("one")
    index.spoilt.add(path.name)
    with pytest.raises(IntegrityError) as refused:
        download().fetch(index.locked(path), store)
    assert (refused.value.code, refused.value.rule) == ("wheel-hash", "hashed-wheels")
    index.spoilt.clear()
    download().fetch(index.locked(path), store)
    assert store.find(index.locked(path)) is not None


def test_more_bytes_than_the_lock_says_are_not_even_read(store, index, download):
    path = index.add("one", padding=bytes(100_000))
    wheel = index.locked(path)
    short = LockedWheel(wheel.filename, wheel.sha256, wheel.url, 500)
    with pytest.raises(IntegrityError, match="is not what the lock says"):
        download().fetch(short, store)


def test_without_an_index_of_its_own_a_hub_follows_a_lock_to_the_hosts_that_it_was_told_of_alone(
    store, index, download
):
    wheel = index.locked(index.add("one"))
    with pytest.raises(DeniedError) as refused:
        download(index_url="", hosts=frozenset({"files.pythonhosted.org"})).fetch(wheel, store)
    assert (refused.value.rule, refused.value.measure) == ("package-hosts", "127.0.0.1")
    assert index.asked == []
    download(index_url="", hosts=frozenset({"127.0.0.1"})).fetch(wheel, store)
    assert store.find(wheel) is not None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://files.pythonhosted.org/one", ""])
def test_only_http_is_followed(store, url, download):
    wheel = LockedWheel("one-1.0-py3-none-any.whl", "ab" * 32, url)
    with pytest.raises((DeniedError, NotFoundError)):
        download(index_url="").fetch(wheel, store)


def test_a_wheel_that_the_index_has_not_is_said_with_what_to_do(store, index, download):
    index.add("one", version="2.0")
    with pytest.raises(NotFoundError, match="the index has no one") as refused:
        download().fetch(LockedWheel("one-1.0-py3-none-any.whl", "ab" * 32), store)
    assert "insitu env import" in refused.value.hint
