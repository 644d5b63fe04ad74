"""Versions are staged once, verified, shared and evicted; whatever goes wrong, what others have stays."""

from __future__ import annotations

import errno
import hmac
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from insitu.agent.staging import digests, views
from insitu.agent.staging.data_cache import DataCache, Staged
from insitu.agent.staging.fetch import StoppedError
from insitu.agent.staging.manifest import Manifest, load_manifest
from insitu.agent.stores.contract import StoreUnreachableError
from insitu.agent.stores.folder import FolderStore
from insitu.domain.errors import IntegrityError, UnavailableError

KEY = b"k" * 32


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """An object of many blocks need not be large."""
    for module in ("coming", "digests", "fetch", "manifest", "streamed"):
        monkeypatch.setattr(f"insitu.agent.staging.{module}.BLOCK_BYTES", 1000)


@dataclass
class CountedStore(FolderStore):
    """A folder that counts what is read of it, and may fail."""

    root: Path
    read_bytes: int = 0
    fail_after: int | None = None
    opened: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__(self.root)

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Any:
        with self._lock:
            if self.fail_after is not None and self.read_bytes >= self.fail_after:
                raise StoreUnreachableError("the cable was pulled")
            self.read_bytes += length
        return super().read(name, start, length, etag=etag)

    def stream(self, name: str, *, start: int = 0, length: int | None = None, etag: str = "", reuse: Any = None) -> Any:
        end = start + (length or 0)
        for at in range(start, end, 1000):
            yield self.read(name, at, min(1000, end - at), etag=etag)


@dataclass
class Bench:
    """A store with files, and a cache that has versions of them."""

    root: Path
    cache: DataCache
    store: CountedStore
    in_use: set[str] = field(default_factory=set)

    def write(self, **files: bytes) -> None:
        for name, data in files.items():
            path = self.store.root / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def add(self, label: str, prefix: str = "") -> Staged:
        found = sorted(self.store.list(prefix), key=lambda one: one.name)
        with self.cache.take_in(found, self.store) as (manifest, digest, _):
            manifest.save(self.root / f"{label}.json")
        return Staged(label, digest, self.root / f"{label}.json", manifest.size_bytes)

    def open(self) -> CountedStore:
        self.store.opened += 1
        return self.store

    def evict(self, version: Staged) -> None:
        self.cache.drop(version)
        self.store.read_bytes = self.store.opened = 0


@pytest.fixture
def bench(tmp_path) -> Bench:
    (tmp_path / "store").mkdir()
    (tmp_path / "cache").mkdir()
    in_use: set[str] = set()
    cache = DataCache(tmp_path / "cache", KEY, in_use=lambda: in_use)
    return Bench(tmp_path, cache, CountedStore(tmp_path / "store"), in_use)


def bytes_of(size: int, seed: int = 0) -> bytes:
    return bytes((seed + at * 7 + at // 251) % 256 for at in range(size))


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_what_was_added_and_nobody_writes_to_it(bench):
    bench.write(a__one=bytes_of(10), a__large=bytes_of(5_432), empty=b"")
    version = bench.add("x@1")
    view = bench.cache.stage(version, bench.open)
    assert files_in(view) == {"a/one": bytes_of(10), "a/large": bytes_of(5_432), "empty": b""}
    assert {path.stat().st_mode & 0o222 for path in view.rglob("*") if path.is_file()} == {0}


def test_a_second_job_asks_the_store_for_nothing(bench):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    bench.store.read_bytes = 0
    bench.cache.stage(version, bench.open)
    bench.cache.stage(version, bench.open)
    assert (bench.store.opened, bench.store.read_bytes) == (0, 0)


def test_an_evicted_version_is_staged_again(bench):
    bench.write(one=bytes_of(10), large=bytes_of(7_000))
    version = bench.add("x@1")
    bench.evict(version)
    assert not bench.cache.is_staged(version)
    assert files_in(bench.cache.path(version)) == {}
    told: list[tuple[int, int]] = []
    view = bench.cache.stage(version, bench.open, progress=lambda done, of: told.append((done, of)))
    assert files_in(view) == {"one": bytes_of(10), "large": bytes_of(7_000)}
    assert max(told) == (7_010, 7_010)
    assert bench.store.read_bytes == 7_010


def test_what_two_versions_share_is_here_once_and_stays_when_one_goes(bench):
    bench.write(shared=bytes_of(3_000), old=bytes_of(500))
    first = bench.add("x@1")
    bench.write(new=bytes_of(600, seed=9))
    second = bench.add("x@2")
    assert bench.cache.objects.size_bytes() == 4_100
    bench.cache.drop(second)
    assert bench.cache.objects.size_bytes() == 3_500
    assert files_in(bench.cache.stage(first, bench.open)) == {"shared": bytes_of(3_000), "old": bytes_of(500)}


def test_staging_that_was_cut_off_goes_on_where_it_was(bench):
    bench.write(small=bytes_of(900), large=bytes_of(40_000))
    version = bench.add("x@1")
    bench.evict(version)
    bench.store.fail_after = 20_000
    with pytest.raises(StoreUnreachableError):
        bench.cache.stage(version, bench.open)
    already = bench.store.read_bytes
    assert already >= 20_000
    bench.store.fail_after, bench.store.read_bytes = None, 0
    assert files_in(bench.cache.stage(version, bench.open))["large"] == bytes_of(40_000)
    assert bench.store.read_bytes <= 40_900 - already + 1_000


def test_what_was_fetched_before_is_believed_only_when_it_verifies(bench):
    bench.write(large=bytes_of(10_000), small=bytes_of(800))
    version = bench.add("x@1")
    bench.evict(version)
    bench.store.fail_after = 6_000
    with pytest.raises(StoreUnreachableError):
        bench.cache.stage(version, bench.open)
    for part in bench.cache.objects.partial.iterdir():
        part.write_bytes(b"\0" * part.stat().st_size)  # as after a power cut
    for path in filter(Path.is_file, bench.cache.objects.folder.glob("??/*")):
        path.chmod(0o600)
        path.write_bytes(b"\0" * path.stat().st_size)
    bench.store.fail_after = None
    assert files_in(bench.cache.stage(version, bench.open)) == {"large": bytes_of(10_000), "small": bytes_of(800)}


def test_staging_that_is_told_to_stop_stops(bench):
    bench.write(large=bytes_of(40_000))
    version = bench.add("x@1")
    bench.evict(version)
    with pytest.raises(StoppedError):
        bench.cache.stage(version, bench.open, stop=lambda: bench.store.read_bytes > 5_000)
    assert not bench.cache.is_staged(version)


@pytest.mark.parametrize("size", [10, 5_000])
def test_an_object_that_changed_is_noticed_and_the_version_is_named(bench, size):
    bench.write(patient_7=bytes_of(size), other=bytes_of(99))
    version = bench.add("x@1")
    bench.evict(version)
    bench.write(patient_7=bytes_of(size, seed=1))
    with pytest.raises(IntegrityError) as changed:
        bench.cache.stage(version, bench.open)
    assert changed.value.code == "dataset-changed"
    assert "x@1" in changed.value.what
    assert "patient_7" not in changed.value.what + changed.value.hint
    assert "patient_7" in changed.value.why
    assert not bench.cache.is_staged(version)


def test_an_object_that_is_gone_is_noticed_too(bench):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    bench.evict(version)
    (bench.store.root / "one").unlink()
    with pytest.raises(IntegrityError, match="x@1"):
        bench.cache.stage(version, bench.open)


def test_the_same_bytes_under_another_etag_are_the_same_version(bench):
    bench.write(one=bytes_of(10), large=bytes_of(5_000))
    version = bench.add("x@1")
    bench.evict(version)
    for path in bench.store.root.iterdir():
        os.utime(path)
    assert files_in(bench.cache.stage(version, bench.open)) == {"one": bytes_of(10), "large": bytes_of(5_000)}


def test_an_object_that_is_written_while_a_version_is_added_ends_that(bench):
    bench.write(one=bytes_of(10))
    found = list(bench.store.list())
    bench.write(one=bytes_of(11))
    with pytest.raises(Exception, match="not the object that was listed"), bench.cache.take_in(found, bench.store):
        pass
    assert bench.cache.objects.size_bytes() == 0


def test_a_copy_that_was_tampered_with_is_noticed_and_fetched_again(bench):
    bench.write(one=bytes_of(10), two=bytes_of(20))
    version = bench.add("x@1")
    path = bench.cache.path(version) / "one"
    path.chmod(0o600)
    path.write_bytes(bytes_of(10, seed=3))
    assert files_in(bench.cache.stage(version, bench.open)) == {"one": bytes_of(10), "two": bytes_of(20)}


def test_after_a_restart_of_the_machine_a_copy_is_hashed_before_it_is_used(bench, monkeypatch):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    path = bench.cache.path(version) / "one"
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(b"\0" * 10)  # was never on the disk when the power went
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr("insitu.agent.staging.data_cache._boot_id", lambda: "another")
    assert files_in(bench.cache.stage(version, bench.open)) == {"one": bytes_of(10)}
    assert bench.store.opened == 1
    bench.cache.stage(version, bench.open)
    assert bench.store.opened == 1


def test_what_was_not_used_for_longest_makes_room(bench):
    versions = {}
    for at, name in enumerate("abc"):
        bench.write(**{f"{name}__x": bytes_of(1_000, seed=at)})
        versions[name] = bench.add(f"{name}@1", f"{name}/")
        os.utime(bench.cache.views.folder / f"{versions[name].view}.json", (at, at))
    bench.cache.limit_bytes = 3_000
    os.utime(bench.cache.views.folder / f"{versions['a'].view}.json", (9, 9))
    bench.write(d__x=bytes_of(1_000, seed=77))
    bench.add("d@1", "d/")
    assert {name for name, version in versions.items() if bench.cache.is_staged(version)} == {"a", "c"}


def test_what_a_job_uses_is_never_evicted(bench):
    bench.write(a__x=bytes_of(1_000), b__x=bytes_of(1_000, seed=1), c__x=bytes_of(1_000, seed=2))
    first, second = bench.add("a@1", "a/"), bench.add("b@1", "b/")
    bench.cache.limit_bytes = 2_000
    bench.in_use.update((first.digest, second.digest))
    third = bench.add("c@1", "c/")
    with pytest.raises(UnavailableError) as full:
        bench.cache.stage(third, bench.open)
    assert full.value.code == "data-cache-full"
    assert bench.cache.is_staged(first)
    assert bench.cache.is_staged(second)


def test_a_version_larger_than_the_cache_is_refused_with_a_way_out(bench):
    bench.write(x=bytes_of(1_000))
    bench.cache.limit_bytes = 999
    version = bench.add("x@1")
    with pytest.raises(UnavailableError) as small:
        bench.cache.stage(version, bench.open)
    assert (small.value.code, small.value.rule) == ("data-cache-small", "data_cache")
    assert (small.value.measure, small.value.limit) == ("1 kB", "999 B")
    assert "mode: direct" in small.value.hint


@pytest.mark.parametrize("room", [0, 4_999])
def test_a_version_that_does_not_fit_is_known_all_the_same_and_leaves_nothing_behind(bench, room):
    bench.write(large=bytes_of(4_500), a__small=bytes_of(499, seed=1), empty=b"")
    known = bench.add("x@1").digest
    bench.cache.drop(Staged("x@1", known, bench.root / "x@1.json", 4_999))
    bench.cache.limit_bytes, bench.cache.reserve_bytes = max(room - 1, 1), 0
    found = sorted(bench.store.list(""), key=lambda one: one.name)
    with bench.cache.take_in(found, bench.store) as (manifest, digest, files):
        assert [(one.name, one.read_bytes()) for one in files] == [
            ("small", bytes_of(499, seed=1)), ("empty", b""), ("large", bytes_of(4_500)),
        ]  # fmt: skip
        assert bench.cache.objects.size_bytes() == 0
    assert digest == known == manifest.digest(KEY)
    assert bench.cache.objects.size_bytes() == 0
    assert not list(bench.cache.views.by_use())


def test_a_file_that_is_not_kept_can_be_read_from_any_place_and_brought_to_the_disk(bench):
    data = bytes_of(4_500)
    bench.write(large=data)
    bench.cache.limit_bytes = 1
    with bench.cache.take_in(list(bench.store.list("")), bench.store) as (_, _, (file,)):
        with file.open("rb") as stream:
            for at in (0, 64, 999, 1_000, 1_001, 4_499, 4_500, 9_000, 10):
                stream.seek(at)
                assert stream.read(1_500) == data[at : at + 1_500]
        with file.on_disk() as place:
            assert place.read_bytes() == data
        assert not list(bench.cache.objects.partial.iterdir())


def test_an_object_that_changes_before_it_is_indexed_ends_the_adding(bench):
    bench.write(large=bytes_of(4_500))
    bench.cache.limit_bytes = 1
    found = list(bench.store.list(""))
    with bench.cache.take_in(found, bench.store) as (_, _, (file,)):
        bench.write(large=bytes_of(4_500, seed=1))
        with pytest.raises(IntegrityError, match="not the object that was listed"):
            file.read_bytes()


def test_many_small_objects_are_read_once_each_and_given_by_their_names(bench):
    for at in range(5_000):
        bench.write(**{f"{at % 50:02d}__{at}": b"%d" % at})
    version = bench.add("x@1")
    assert bench.store.read_bytes == sum(len(str(at)) for at in range(5_000))
    view = bench.cache.stage(version, bench.open)
    assert bench.store.opened == 0
    assert files_in(view) == {f"{at % 50:02d}/{at}": b"%d" % at for at in range(5_000)}


def test_two_jobs_stage_a_version_once(bench):
    bench.write(large=bytes_of(30_000))
    version = bench.add("x@1")
    bench.evict(version)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(bench.cache.stage(version, bench.open))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert (bench.store.opened, bench.store.read_bytes) == (1, 30_000)


def test_what_a_killed_process_left_half_made_is_forgotten_and_its_bytes_are_used(bench):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    bench.cache.path(version).rename(bench.cache.views.folder / f".{version.view}.4711")
    (bench.cache.views.folder / f"{version.view}.json").unlink()
    bench.cache.forget_unfinished()
    bench.store.read_bytes = 0
    assert files_in(bench.cache.stage(version, bench.open)) == {"one": bytes_of(10)}
    assert bench.store.read_bytes == 0


def test_a_small_object_that_a_killed_process_began_counts_for_nothing_and_is_swept(bench):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    (whole,) = (path for path in bench.cache.objects.folder.glob("??/*") if path.is_file())
    begun = whole.with_name(f"{whole.name}.4711-1.new")
    begun.write_bytes(bytes_of(5_000))
    nobodys = whole.with_name(f"{'f' * 64}.4711-1.new")
    nobodys.write_bytes(bytes_of(5))
    assert files_in(bench.cache.stage(version, bench.open)) == {"one": bytes_of(10)}
    assert bench.cache.objects.size_bytes() > 5_000  # it takes room on the disk
    bench.cache.objects.sweep({whole.name})  # it may be on its way just now
    assert set(whole.parent.iterdir()) == {whole, begun}
    bench.cache.sweep()
    assert list(whole.parent.iterdir()) == [whole]
    assert bench.cache.objects.size_bytes() == 10


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 8 MB, which really fills."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a failed test's traceback may hold a file open


def test_a_disk_that_fills_is_cleaned_and_what_others_have_stays(bench, small_disk, monkeypatch):
    cache = bench.cache = DataCache(small_disk, KEY, limit_bytes=1 << 40)
    bench.write(a__x=bytes_of(1_000_000))
    other = bench.add("a@1", "a/")
    bench.write(**{f"b__{at}": os.urandom(1_500_000) for at in range(6)})
    # Nobody saw it coming: whoever else writes to the disk took the room meanwhile.
    monkeypatch.setattr(DataCache, "_fits", lambda *_: True)
    with pytest.raises(UnavailableError) as full:
        bench.add("b@1", "b/")
    assert full.value.code == "data-disk-full"
    assert cache.objects.size_bytes() == 1_000_000
    assert list(cache.objects.partial.iterdir()) == []
    assert not list(cache.objects.folder.rglob("*.new"))
    assert files_in(cache.stage(other, bench.open)) == {"a/x": bytes_of(1_000_000)}


def test_a_disk_that_has_no_room_is_told_before_anything_is_fetched(bench, small_disk):
    bench.cache = DataCache(small_disk, KEY, limit_bytes=1 << 40)
    bench.write(x=os.urandom(9_000_000))
    version = bench.add("x@1")  # read where it is, since it does not fit
    before = bench.store.read_bytes
    with pytest.raises(UnavailableError) as full:
        bench.cache.stage(version, bench.open)
    assert full.value.code == "data-disk-full"
    assert bench.store.read_bytes == before


def test_more_names_than_a_file_may_have_are_given_all_the_same(bench, monkeypatch):
    """As many patients as have the same form filled in."""
    link = os.link

    def limited(source: Any, target: Any) -> None:
        if Path(source).stat().st_nlink >= 4:
            raise OSError(errno.EMLINK, "Too many links")
        link(source, target)

    monkeypatch.setattr(views.os, "link", limited)
    bench.write(**{f"form_{at}": b"same" for at in range(10)})
    version = bench.add("x@1")
    assert set(files_in(bench.cache.path(version)).values()) == {b"same"}
    assert len(files_in(bench.cache.path(version))) == 10


def test_a_manifest_is_read_as_it_was_written(bench, tmp_path):
    bench.write(a__größe=bytes_of(5_000), empty=b"")
    version = bench.add("x@1")
    manifest = load_manifest(version.manifest)
    assert manifest.digest(KEY) == version.digest
    manifest.save(tmp_path / "again.json")
    assert load_manifest(tmp_path / "again.json") == manifest


def older(version: Staged) -> Staged:
    """As a version was written down when leaves were of HMAC-SHA-256 and manifests named no scheme."""
    document = orjson.loads(version.manifest.read_bytes())
    leaf, root = (hmac.digest(KEY, f"insitu-object/{part}".encode(), "sha256") for part in ("leaf", "root"))
    view = version.manifest.parent / "cache" / "views" / version.view
    for row in document["objects"]:
        data = (view / row[0]).read_bytes()
        leaves = [hmac.digest(leaf, data[at : at + 1000], "sha256") for at in range(0, len(data), 1000)]
        row[3] = hmac.digest(root, len(data).to_bytes(8, "big") + b"".join(leaves), "sha256").hex()
        row[4] = b"".join(leaves).hex() if len(leaves) > 1 else ""
    del document["scheme"]
    version.manifest.write_bytes(orjson.dumps({**document, "format": 1}))
    return replace(version, digest=load_manifest(version.manifest).digest(KEY))


def test_a_version_of_the_older_scheme_is_staged_and_verified_by_its_own(bench):
    bench.write(a__one=bytes_of(10), a__large=bytes_of(5_432), empty=b"")
    newer = bench.add("x@1")
    version = older(newer)
    bench.evict(newer)
    bench.store.fail_after = 3000
    with pytest.raises(StoreUnreachableError):
        bench.cache.stage(version, bench.open)
    bench.store.fail_after = None
    path = bench.cache.stage(version, bench.open)
    assert files_in(path) == {"a/one": bytes_of(10), "a/large": bytes_of(5_432), "empty": b""}
    assert bench.store.read_bytes < 2 * 5_432, "what had come verified by the older scheme"
    (path / "a" / "large").chmod(0o644)
    (path / "a" / "large").write_bytes(bytes(5_432))
    assert files_in(bench.cache.stage(version, bench.open))["a/large"] == bytes_of(5_432)
    bench.evict(version)
    bench.write(a__large=bytes_of(5_432, seed=1))
    with pytest.raises(IntegrityError, match="dataset x@1 is not what it was"):
        bench.cache.stage(version, bench.open)


def test_digests_stay_what_they_were():
    """Manifests hold them, and caches are named by them."""
    keys = digests.DigestKeys.of(KEY)
    roots = {scheme: keys.under(scheme).root_of(3, [keys.under(scheme).leaf_of(b"abc")]) for scheme in digests.SCHEMES}
    assert roots == {
        "hmac-sha256": "7510d684d50f5997ca7e620b3a57992b1e8fce2c288e1e02b2beae003fbf92b3",
        "blake3": "0f8142b868a7b02d2d2c02d8f3915c43a3c30dda5b9d99d6c116f7fbec9b4aaa",
    }


@pytest.mark.parametrize("change", [{"scheme": "md5"}, {"scheme": None}, {"format": 3}, {"block_bytes": 999}])
def test_a_manifest_that_is_not_understood_is_not_used(bench, change):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    version.manifest.write_bytes(orjson.dumps({**orjson.loads(version.manifest.read_bytes()), **change}))
    with pytest.raises(IntegrityError, match="can't be read"):
        load_manifest(version.manifest)


def test_leaves_of_another_scheme_are_no_leaves_of_this_one(bench):
    bench.write(large=bytes_of(5_432))
    version = bench.add("x@1")
    bench.evict(version)
    document = orjson.loads(version.manifest.read_bytes())
    version.manifest.write_bytes(orjson.dumps({**document, "scheme": "hmac-sha256"}))
    with pytest.raises(IntegrityError):
        bench.cache.stage(version, bench.open)


def test_another_sites_key_gives_other_digests(bench):
    bench.write(one=bytes_of(10))
    version = bench.add("x@1")
    manifest: Manifest = load_manifest(version.manifest)
    assert manifest.digest(b"o" * 32) != version.digest
    assert (
        digests.DigestKeys.of(b"o" * 32).newest.of_file(bench.cache.path(version) / "one") != manifest.objects[0].digest
    )
