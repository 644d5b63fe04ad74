"""Bundles: the same bytes each time, and nothing in one is believed but what has the hash that its name says."""

import io
import json
import tarfile

import pytest

from insitu.domain.digests import digest_of, digest_of_file
from insitu.domain.errors import IntegrityError, InvalidInputError
from insitu.images.bundles import BundledLock, take_bundle, write_bundle
from insitu.images.wheel_store import WheelStore
from tests.package_index import a_lock, locked, make_wheel


@pytest.fixture
def desk(tmp_path):
    """A store with two wheels, and their lock."""
    store, wheels = WheelStore(tmp_path / "desk"), []
    for name in ("two", "one"):
        path = make_wheel(tmp_path, name)
        wheels.append(locked(path))
        with path.open("rb") as stream:
            store.put(wheels[-1], stream)
    return store, wheels, a_lock(*wheels)


@pytest.fixture
def bundle(tmp_path, desk):
    store, wheels, raw = desk
    write_bundle(tmp_path / "bundle.tar", [BundledLock(raw, "3.11", "x86_64-linux")], wheels, store)
    return tmp_path / "bundle.tar"


@pytest.fixture
def there(tmp_path):
    return WheelStore(tmp_path / "there")


def changed(bundle, change):
    """The bundle with each of its members as `change(name, content)` gives it; None leaves it out."""
    out = bundle.with_name("changed.tar")
    with tarfile.open(bundle) as old, tarfile.open(out, "w") as new:
        for member in old:
            content = old.extractfile(member)
            assert content is not None
            made = change(member.name, content.read())
            if made is not None:
                info = tarfile.TarInfo(made[0])
                info.size = len(made[1])
                new.addfile(info, io.BytesIO(made[1]))
    return out


def test_the_same_locks_and_wheels_give_the_same_bytes_whatever_their_order(tmp_path, desk, bundle):
    store, wheels, raw = desk
    again = tmp_path / "again.tar"
    write_bundle(again, [BundledLock(raw, "3.11", "x86_64-linux")], wheels[::-1], store)
    assert digest_of_file(again) == digest_of_file(bundle)
    with tarfile.open(bundle) as tar:
        members = tar.getmembers()
    assert {(one.mtime, one.uid, one.gid, one.uname) for one in members} == {(0, 0, 0, "")}
    assert members[0].name == "insitu-bundle.json"


def test_what_was_packed_is_taken_and_a_second_time_nothing_is_new(desk, bundle, there):
    _, wheels, raw = desk
    locks = {}
    taken = take_bundle(bundle, there, keep_lock=locks.__setitem__)
    assert (len(taken.new), taken.known, taken.locks) == (2, (), (digest_of(raw),))
    assert locks == {digest_of(raw): raw}
    assert there.lacking(wheels) == []
    again = take_bundle(bundle, there)
    assert (again.new, len(again.known)) == ((), 2)


def test_a_damaged_wheel_is_named_and_what_came_before_it_stays(desk, bundle, there):
    _, wheels, _ = desk
    *_, last = sorted(wheels, key=lambda wheel: wheel.sha256)
    spoilt = changed(bundle, lambda name, content: (name, content[:-1] + b"!" if last.filename in name else content))
    with pytest.raises(IntegrityError) as refused:
        take_bundle(spoilt, there)
    assert last.filename in refused.value.what
    assert there.lacking(wheels) == [last]
    take_bundle(bundle, there)
    assert there.lacking(wheels) == []


def test_a_bundle_that_was_cut_off_is_no_bundle(bundle, there):
    bundle.write_bytes(bundle.read_bytes()[:-12_000])
    with pytest.raises((InvalidInputError, IntegrityError)):
        take_bundle(bundle, there)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, content: ("../" + name, content) if name.endswith(".whl") else (name, content),
        lambda name, content: ("/etc/passwd", content) if name.endswith(".whl") else (name, content),
        lambda name, content: (name.replace(".whl", ".sh"), content),
        lambda name, content: None if name.endswith(".whl") else (name, content),
        lambda name, content: None if name.endswith(".json") else (name, content),
        lambda name, content: (name, content.replace(b"bundle/1", b"bundle/9")),
        lambda name, content: (name, content + b"\n# more") if name.endswith(".toml") else (name, content),
        lambda name, content: (name, b"[") if name.endswith(".json") else (name, content),
    ],
)
def test_what_has_no_business_in_a_bundle_is_refused_and_nothing_lies_outside_the_store(
    bundle, there, change, tmp_path
):
    before = {path for path in tmp_path.iterdir() if path.name != "there"}
    made = changed(bundle, change)
    with pytest.raises(InvalidInputError) as refused:
        take_bundle(made, there)
    assert refused.value.code == "bundle-damaged"
    assert {path for path in tmp_path.iterdir() if path.name != "there"} == before | {made}


def test_a_link_in_a_bundle_is_not_followed(bundle, there, tmp_path):
    out = tmp_path / "links.tar"
    with tarfile.open(bundle) as old, tarfile.open(out, "w") as new:
        first = old.next()
        assert first is not None
        new.addfile(first, old.extractfile(first))
        link = tarfile.TarInfo(f"wheels/{'ab' * 32}/one-1.0-py3-none-any.whl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        new.addfile(link)
    with pytest.raises(InvalidInputError):
        take_bundle(out, there)


def test_what_is_no_tar_is_refused(tmp_path, there):
    (tmp_path / "bundle.tar").write_text(json.dumps({"not": "a bundle"}))
    with pytest.raises(InvalidInputError, match="not a whole bundle"):
        take_bundle(tmp_path / "bundle.tar", there)
