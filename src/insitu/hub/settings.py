"""What a hub is started with. Built by an entry point and handed on; nothing below reads the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True)
class HubSettings:
    """One hub: one data folder, one database, one address.

    Without `database_url` the database is a SQLite file in the data folder, and
    exactly one hub process may use it. With a PostgreSQL URL any number may.
    """

    data: Path
    database_url: str = field(default="", repr=False)  # may hold a password, so it is never printed
    host: str = "127.0.0.1"
    port: int = 7400  # 0: one that is free
    public_url: str = ""  # how people and agents reach it, when that is not http://host:port
    tls_certificate: Path | None = None  # PEM, with its chain; without it the hub speaks plain HTTP
    tls_key: Path | None = None
    registry: str = ""  # where images are pushed: http(s)://host[:port][/prefix]; empty: nowhere
    registry_auth: Path | None = None  # a file with `user:password`, mode 0600
    base_layout: Path | None = None  # an OCI layout that holds the bases; None: `<data>/bases`
    cache: Path | None = None  # of packages and compiled files; None: `<data>/cache`. May be shared with others
    wheel_store: Path | None = None  # of wheels by hash; None: `<data>/wheels`. May be shared with other hubs
    index_url: str = field(
        default="", repr=False
    )  # where wheels come from, instead of the lock's addresses; hashes are checked whatever it serves
    package_hosts: tuple[str, ...] = ()  # that a lock's addresses may name beside PyPI's own
    log_level: str = "info"

    away_after: timedelta = timedelta(seconds=45)  # silence after which a site counts as out of reach
    longest_wait_s: float = (
        30.0  # of an agent's long poll; well within `away_after`, since a poll is also a sign of life
    )
    join_token_for: timedelta = timedelta(hours=1)
    max_blob_bytes: int = 8 << 30
    max_body_bytes: int = 8 << 20  # of a JSON request: 1,000 events of 6 kB and what surrounds them
    loops: bool = True  # False: nothing happens unasked; for tests that step through by hand

    @property
    def sqlalchemy_url(self) -> str:
        if not self.database_url:
            return f"sqlite:///{self.data / 'hub.sqlite3'}"
        scheme, _, rest = self.database_url.partition("://")
        # The driver is ours to choose: people write postgresql:// or postgres://.
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else self.database_url

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}"

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def uploads(self) -> Path:
        return self.data / "uploads"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def bases(self) -> Path:
        return self.base_layout or self.data / "bases"

    @property
    def packages(self) -> Path:
        return self.cache or self.data / "cache"

    @property
    def wheels(self) -> Path:
        return self.wheel_store or self.data / "wheels"

    @property
    def admin_token_file(self) -> Path:
        return self.data / "admin-token"

    @property
    def key_file(self) -> Path:
        return self.data / "hub-key"
