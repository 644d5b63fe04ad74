"""An index made by reading from the store is the one that is made of staged files, byte by byte, in each format."""

from __future__ import annotations

import errno
import io
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insitu.agent import catalogue
from insitu.agent.catalogue import DatasetVersion, add_dataset, data_cache
from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.settings import AgentSettings, save_settings
from insitu.domain.errors import UnavailableError


def _csv(seed: int) -> bytes:
    rows = np.random.default_rng(seed).normal(size=(400, 3))
    words = [*("7" for _ in range(300)), *(f"w{seed}-{at}" for at in range(100))]  # taken for numbers at first
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{word}" for (a, b, c), word in zip(rows, words, strict=True)]
    return "\n".join(["a,b,c,d", *lines, ""]).encode()


def _parquet(seed: int) -> bytes:
    made = io.BytesIO()
    values = np.random.default_rng(seed).normal(size=300)
    pq.write_table(pa.table({"a": values, "b": [f"t{at % 40}" for at in range(300)]}), made)
    return made.getvalue()


def _npy(seed: int) -> bytes:
    made = io.BytesIO()
    np.save(made, np.random.default_rng(seed).normal(size=(300, 4)))
    return made.getvalue()


def _png(seed: int) -> bytes:
    rows = np.random.default_rng(seed).integers(0, 256, size=(40, 30), dtype=np.uint8)
    chunks = (
        (b"IHDR", b"\0\0\0\x1e\0\0\0\x28\x08\0\0\0\0"),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    )
    parts = [
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _lines(seed: int) -> bytes:
    return "".join(f"line {at} of {seed} says something else\n" for at in range(500)).encode()


FORMATS: dict[str, Callable[[int], bytes]] = {
    "csv": _csv,
    "parquet": _parquet,
    "npy": _npy,
    "text": _lines,
    "files": lambda seed: np.random.default_rng(seed).bytes(9_000),
    "images": _png,
}


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    folder = SiteFolder(tmp_path / "site")
    folder.make()
    save_settings(folder, AgentSettings(hub="http://127.0.0.1:1"))
    (tmp_path / "data").mkdir()
    add_datastore(folder, "private", str(tmp_path / "data"))
    return folder


def add(site: SiteFolder, kind: str, *, room: int) -> DatasetVersion:
    cache = data_cache(site)
    cache.limit_bytes = room
    return add_dataset(site, "events", datastore="private", pattern="*", kind=kind, cache=cache)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_index_is_the_same_whether_a_version_fits_or_not(
    site: SiteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for module in ("coming", "digests", "fetch", "manifest", "streamed"):
        monkeypatch.setattr(f"insitu.agent.staging.{module}.BLOCK_BYTES", 4096)
    for number in range(3):
        (tmp_path / "data" / f"{number}").write_bytes(FORMATS[kind](number))
    staged = add(site, kind, room=1 << 30)
    shutil.rmtree(site.cache)
    site.cache.mkdir()
    read = add(site, kind, room=1)
    assert (read.digest, read.rows, read.columns) == (staged.digest, staged.rows, staged.columns)
    assert contents(read.index) == contents(staged.index)
    assert not data_cache(site).is_staged(read.staged)
    assert not [path for path in (site.cache / "objects").rglob("*") if path.is_file()]


def test_a_disk_without_room_for_the_index_is_said_and_leaves_no_version(
    site: SiteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "0").write_bytes(_csv(0))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(catalogue, "build_index", full)
    with pytest.raises(UnavailableError) as refused:
        add(site, "csv", room=1)
    assert (refused.value.code, refused.value.rule) == ("index-disk-full", "index-disk")
    assert refused.value.measure
    assert "free" in refused.value.limit
    assert refused.value.hint
    assert not list(site.datasets.glob("*/*"))
