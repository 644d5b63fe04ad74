"""What every object store promises, asked of each way to speak to one: folder, Azure Blob (two ways), S3."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from insitu.agent.stores.addresses import StoreAddress, parse_address
from insitu.agent.stores.contract import (
    RANGE_BYTES,
    Buffer,
    ObjectChangedError,
    ObjectMissingError,
    ObjectStore,
    Reuse,
    StoreListError,
    StoreLoginError,
    StoreReadError,
    StoreUnreachableError,
    StoreWriteError,
)
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.opening import open_store


@dataclass(frozen=True)
class Kept:
    """A store, and how a test writes into it past us."""

    address: StoreAddress
    credentials: Credentials
    put: Callable[[str, bytes], object]

    @property
    def store(self) -> ObjectStore:
        return open_store(self.address, self.credentials, patient=False)


def in_folder(root: Path) -> Kept:
    def put(name: str, data: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return Kept(parse_address(str(root)), Credentials(), put)


def in_azurite(azurite, **options: str) -> Kept:
    name = f"c{secrets.token_hex(6)}"
    container = azurite.container(name)
    return Kept(
        parse_address(f"az://{name}", endpoint=azurite.endpoint, **options),
        Credentials("file", {"account_key": azurite.key}),
        lambda path, data: container.upload_blob(path, data, overwrite=True),
    )


def in_s3(s3) -> Kept:
    name = f"b{secrets.token_hex(6)}"
    client = s3.bucket(name)
    return Kept(
        parse_address(f"s3://{name}", endpoint=s3.endpoint),
        Credentials("file", {"access_key_id": s3.access_key_id, "secret_access_key": s3.secret_access_key}),
        lambda path, data: client.put_object(Bucket=name, Key=path, Body=data),
    )


WAYS = ["folder", "azure", "azure-sdk", "s3"]


@pytest.fixture(params=WAYS)
def kept(request, tmp_path) -> Kept:
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        return in_folder(tmp_path / "store")
    if request.param == "s3":
        return in_s3(request.getfixturevalue("s3"))
    old = {"api_version": "2019-02-02"} if request.param == "azure-sdk" else {}
    return in_azurite(request.getfixturevalue("azurite"), **old)


def names(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted(found.name for found in store.list(prefix))


def test_what_is_there_is_listed_with_size_etag_and_time(kept):
    kept.put("wdbc/part-1.csv", b"a,b\n1,2\n")
    [found] = kept.store.list()
    assert (found.name, found.size_bytes) == ("wdbc/part-1.csv", 8)
    assert found.etag
    assert '"' not in found.etag
    assert found.modified_at.tzinfo is not None
    assert kept.store.describe("wdbc/part-1.csv") == found


def test_a_prefix_may_end_within_a_name(kept):
    for name in ("wdbc/part-1.csv", "wdbc/part-2.csv", "wdbc/other.csv", "wdbcx/part-3.csv"):
        kept.put(name, b"x")
    assert names(kept.store, "wdbc/part-") == ["wdbc/part-1.csv", "wdbc/part-2.csv"]
    assert names(kept.store, "wdbc/") == ["wdbc/other.csv", "wdbc/part-1.csv", "wdbc/part-2.csv"]
    assert names(kept.store, "nothing/") == []


def test_the_addresss_own_prefix_is_no_part_of_names(kept):
    if kept.address.kind == "folder":
        inner = replace(kept.address, folder=f"{kept.address.folder}/inside")
        Path(inner.folder).mkdir()
    else:
        inner = replace(kept.address, prefix="inside/")
    kept.put("inside/a/x.csv", b"12345")
    kept.put("beside/y.csv", b"y")
    store = open_store(inner, kept.credentials)
    assert names(store) == ["a/x.csv"]
    assert names(store, "a/") == ["a/x.csv"]
    assert bytes(store.read("a/x.csv", 1, 3)) == b"234"
    assert store.describe("a/x.csv").size_bytes == 5


def test_all_of_many_objects_are_listed(kept, monkeypatch):
    monkeypatch.setattr("insitu.agent.stores.through_obstore._PAGE", 25)
    wanted = [f"many/{number:04}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: kept.put(name, b""), wanted))
    assert names(kept.store, "many/") == wanted


def test_ranges_are_exact(kept):
    data = secrets.token_bytes(100_000)
    kept.put("x.bin", data)
    etag = kept.store.describe("x.bin").etag
    assert bytes(kept.store.read("x.bin", 17, 60_000, etag=etag)) == data[17:60_017]
    assert bytes(kept.store.read("x.bin", 99_999, 1)) == data[-1:]
    assert bytes(kept.store.read("x.bin", 5, 0)) == b""


def test_a_range_beyond_the_end_is_a_change(kept):
    kept.put("x.bin", b"12345")
    with pytest.raises(ObjectChangedError):
        kept.store.read("x.bin", 3, 10)
    with pytest.raises(ObjectChangedError):
        kept.store.read("x.bin", 30, 10)


def test_a_stream_gives_all_from_where_it_is_asked(kept):
    data = secrets.token_bytes(RANGE_BYTES + 12_345)
    kept.put("x.bin", data)
    store = kept.store
    assert b"".join(store.stream("x.bin", etag=store.describe("x.bin").etag)) == data
    assert b"".join(store.stream("x.bin", start=RANGE_BYTES)) == data[RANGE_BYTES:]
    assert b"".join(store.stream("x.bin", start=5, length=RANGE_BYTES + 7)) == data[5 : RANGE_BYTES + 12]
    assert b"".join(store.stream("x.bin", length=3)) == data[:3]
    assert b"".join(store.stream("x.bin", start=9, length=0)) == b""


def into_one_piece(size: int = 100_000, *, full: bool = True) -> Reuse:
    return Reuse(memoryview(bytearray(size)), full=full)


def copied(pieces: Iterable[Buffer]) -> list[bytes]:
    return [bytes(piece) for piece in pieces]


def test_a_stream_may_be_read_into_memory_that_is_used_again(kept):
    data = secrets.token_bytes(RANGE_BYTES + 12_345)
    kept.put("x.bin", data)
    store = kept.store
    etag = store.describe("x.bin").etag
    for full in (True, False):
        for options in ({"etag": etag}, {"start": 5, "length": RANGE_BYTES + 7}, {"start": RANGE_BYTES}, {"length": 0}):
            start, length = options.get("start", 0), options.get("length", len(data))
            pieces = store.stream("x.bin", **options, reuse=into_one_piece(full=full))
            assert b"".join(copied(pieces)) == data[start : start + length]
    store.close()


def test_what_is_read_into_memory_is_the_object_that_was_listed(kept):
    kept.put("x.csv", b"first")
    store = kept.store
    etag = store.describe("x.csv").etag
    kept.put("x.csv", b"other, longer")
    with pytest.raises(ObjectChangedError):
        list(store.stream("x.csv", etag=etag, reuse=into_one_piece()))
    with pytest.raises(ObjectMissingError):
        list(store.stream("nope", reuse=into_one_piece()))
    store.close()


def test_an_object_of_no_bytes_is_an_object(kept):
    kept.put("empty", b"")
    store = kept.store
    assert [found.size_bytes for found in store.list()] == [0]
    assert b"".join(store.stream("empty")) == b""
    assert bytes(store.read("empty", 0, 0)) == b""


def test_names_may_be_of_any_script_and_hold_odd_characters(kept):
    odd = ["ü b/größe (1).csv", "数据/患者 #7.csv", "50%/a+b&c=d.csv", "emoji/🧬.bin", "e\u0301/decomposed"]
    for name in odd:
        kept.put(name, name.encode())
    store = kept.store
    assert names(store) == sorted(odd)
    for found in store.list():
        assert bytes(store.read(found.name, 0, found.size_bytes, etag=found.etag)).decode() == found.name


@pytest.mark.parametrize("kept", [way for way in WAYS if way != "folder"], indirect=True)
def test_our_own_connection_alone_reads_any_name(kept, monkeypatch, azurite):
    inner = replace(kept, address=replace(kept.address, prefix="in ü/"))
    ways = [inner.credentials]
    if kept.address.kind == "azure":
        ways.append(Credentials("file", {"sas_token": azurite.sas()}))
    odd = [
        "ü b/größe (1).csv",
        "数据/患者 #7.csv",
        "50%/a+b&c=d.csv",
        "emoji/🧬.bin",
        "e\u0301/decomposed",
        "x?y",
        "a%20b",
    ]
    for name in odd:
        kept.put(f"in ü/{name}", name.encode() * 3)
    for credentials in ways:
        store = replace(inner, credentials=credentials).store
        found = {one.name: one for one in store.list()}
        monkeypatch.setattr(store, "_stream", lambda *asked: pytest.fail(f"the library was asked for {asked}"))
        for name in odd:
            pieces = store.stream(name, start=2, etag=found[name].etag, reuse=into_one_piece())
            assert b"".join(copied(pieces)) == (name.encode() * 3)[2:]
        store.close()


def test_an_object_that_was_written_again_is_not_read_as_the_one_that_was_listed(kept):
    kept.put("x.csv", b"first")
    etag = kept.store.describe("x.csv").etag
    kept.put("x.csv", b"other, longer")
    with pytest.raises(ObjectChangedError) as read:
        kept.store.read("x.csv", 0, 5, etag=etag)
    assert read.value.code == "object-changed"
    with pytest.raises(ObjectChangedError):
        b"".join(kept.store.stream("x.csv", etag=etag))


def test_what_is_not_there_is_missing(kept):
    kept.put("x", b"x")
    for ask in (
        lambda: kept.store.describe("nope/x.csv"),
        lambda: kept.store.read("nope/x.csv", 0, 1),
        lambda: list(kept.store.stream("nope/x.csv")),
    ):
        with pytest.raises(ObjectMissingError) as missing:
            ask()
        assert missing.value.step == "read"


def test_what_is_written_is_there_whole(kept, tmp_path):
    source = tmp_path / "local.bin"
    source.write_bytes(secrets.token_bytes(RANGE_BYTES * 2 + 7))
    told: list[int] = []
    written = kept.store.write("up/ä.bin", source, progress=told.append)
    assert sum(told) == source.stat().st_size
    assert written == kept.store.describe("up/ä.bin")
    assert b"".join(kept.store.stream("up/ä.bin")) == source.read_bytes()
    source.write_bytes(b"again")
    assert kept.store.write("up/ä.bin", source).size_bytes == 5


def test_a_store_that_is_not_there_is_told_apart(kept, free_port):
    away = {
        "folder": replace(kept.address, folder=f"{kept.address.folder}-away"),
        "azure": replace(kept.address, endpoint=f"http://127.0.0.1:{free_port()}/devstoreaccount1"),
        "s3": replace(kept.address, endpoint=f"http://127.0.0.1:{free_port()}"),
    }[kept.address.kind]
    with pytest.raises(StoreUnreachableError) as unreachable:
        list(open_store(away, kept.credentials, patient=False).list())
    assert unreachable.value.code == "store-unreachable"


# -- of some stores only -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["azure", "azure-sdk"])
def azure(request, azurite) -> Kept:
    found = in_azurite(azurite, **({"api_version": "2019-02-02"} if request.param == "azure-sdk" else {}))
    found.put("x.csv", b"x")
    return found


def with_credentials(kept: Kept, **values: str) -> ObjectStore:
    return open_store(kept.address, Credentials("file", values), patient=False)


def test_a_wrong_key_is_told_apart(azure):
    with pytest.raises(StoreLoginError) as wrong:
        list(with_credentials(azure, account_key="Zm9v" * 22).list())
    assert wrong.value.code == "store-key-wrong"


def test_a_key_that_is_no_key_is_told_apart(azure):
    with pytest.raises(StoreLoginError) as wrong:
        list(with_credentials(azure, account_key="not a key!").list())
    assert wrong.value.code == "store-key-malformed"


def test_an_expired_token_is_told_apart(azure, azurite):
    with pytest.raises(StoreLoginError) as expired:
        list(with_credentials(azure, sas_token=azurite.sas(hours=-1)).list())
    assert expired.value.code == "store-token-expired"
    assert "UTC" in expired.value.why


def test_a_token_that_is_good_logs_in(azure, azurite):
    assert [found.name for found in with_credentials(azure, sas_token=azurite.sas()).list()] == ["x.csv"]
    assert [found.name for found in with_credentials(azure, sas_token="?" + azurite.sas()).list()] == ["x.csv"]


def test_a_token_that_may_not_list_is_told_apart_from_one_that_may_not_read(azure, azurite):
    only_read = with_credentials(azure, sas_token=azurite.sas(permission="r"))
    assert only_read.describe("x.csv").size_bytes == 1
    with pytest.raises(StoreListError) as denied:
        list(only_read.list())
    assert denied.value.code == "store-list-denied"
    only_list = with_credentials(azure, sas_token=azurite.sas(permission="l"))
    assert len(list(only_list.list())) == 1
    with pytest.raises(StoreReadError) as unread:
        only_list.read("x.csv", 0, 1)
    assert unread.value.code == "store-read-denied"


def test_a_token_that_may_not_write_is_told_apart(azure, azurite, tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(StoreWriteError) as denied:
        with_credentials(azure, sas_token=azurite.sas(permission="rl")).write("y", tmp_path / "x")
    assert denied.value.code == "store-write-denied"


def test_no_error_holds_the_token_that_it_was_asked_with(azure, azurite, tmp_path):
    token = azurite.sas(permission="r", hours=-1)
    signature = token.rpartition("sig=")[2].partition("&")[0]
    with pytest.raises(StoreLoginError) as expired:
        list(with_credentials(azure, sas_token=token).list())
    told: list[str] = []
    error: BaseException | None = expired.value
    while error is not None:
        told += [str(error), repr(error)]
        error = error.__cause__ if error.__cause__ or error.__suppress_context__ else error.__context__
    assert signature not in "".join(told)


@pytest.mark.parametrize("way", ["azure", "azure-sdk", "s3"])
def test_a_container_that_is_not_there_is_told_apart(way, request):
    if way == "s3":
        found = in_s3(request.getfixturevalue("s3"))
    else:
        old = {"api_version": "2019-02-02"} if way == "azure-sdk" else {}
        found = in_azurite(request.getfixturevalue("azurite"), **old)
    away = replace(found.address, container="nowhere")
    with pytest.raises(StoreListError) as missing:
        list(open_store(away, found.credentials, patient=False).list())
    assert missing.value.code == "store-container-missing"


def test_the_old_service_version_is_what_the_endpoint_is_asked_in(azurite, monkeypatch):
    from azure.core.pipeline.transport import RequestsTransport

    asked = []
    send = RequestsTransport.send
    monkeypatch.setattr(
        RequestsTransport,
        "send",
        lambda self, request, **rest: (asked.append(request.headers["x-ms-version"]), send(self, request, **rest))[1],
    )
    list(in_azurite(azurite, api_version="2019-02-02").store.list())
    assert asked[-1] == "2019-02-02"


def test_a_link_in_a_folder_leads_nowhere_outside(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "inside.csv").write_text("x")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "alias.csv").symlink_to(root / "inside.csv")
    store = in_folder(root).store
    assert names(store) == ["alias.csv", "inside.csv"]
    for name in ("out", "up/secret", "../secret"):
        with pytest.raises(ObjectMissingError):
            store.describe(name)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    import sys

    from insitu.domain.errors import UnavailableError

    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    monkeypatch.delitem(sys.modules, "insitu.agent.stores.through_azure_sdk", raising=False)
    address = parse_address("az://c", endpoint="https://a.blob.stack.example", api_version="2019-02-02")
    with pytest.raises(UnavailableError) as missing:
        open_store(address, Credentials())
    assert missing.value.code == "extra-missing"
    assert "insitu[agent,azure]" in missing.value.hint


def test_a_refusal_has_its_name_where_our_own_connection_met_it_first(azure, azurite):
    for credentials, error, code in (
        ({"account_key": "Zm9v" * 22}, StoreLoginError, "store-key-wrong"),
        ({"account_key": "not a key!"}, StoreLoginError, "store-key-malformed"),
        ({"sas_token": azurite.sas(hours=-1)}, StoreLoginError, "store-token-expired"),
        ({"sas_token": azurite.sas(permission="l")}, StoreReadError, "store-read-denied"),
    ):
        with pytest.raises(error) as refused:
            list(with_credentials(azure, **credentials).stream("x.csv", reuse=into_one_piece()))
        assert refused.value.code == code
        assert "sig=" not in f"{refused.value!r}{refused.value.__context__!r}"
