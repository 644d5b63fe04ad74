"""A person's settings: which hub, which token, which key. `$XDG_CONFIG_HOME/insitu`, mode 0700."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.errors import AuthenticationError
from insitu.wire.keys import SigningKey


@dataclass(frozen=True)
class UserFolders:
    """Where a person's configuration and caches lie."""

    config: Path
    cache: Path

    @classmethod
    def from_environment(cls, environment: dict[str, str]) -> UserFolders:
        """By the XDG base directory specification; `INSITU_CONFIG` names the configuration folder itself."""
        home = Path(environment.get("HOME") or Path.home())
        config = environment.get("INSITU_CONFIG")
        base = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
        return cls(config=Path(config) if config else base / "insitu", cache=cache / "insitu")

    @property
    def key(self) -> Path:
        return self.config / "key"

    @property
    def token(self) -> Path:
        return self.config / "token"

    @property
    def settings(self) -> Path:
        return self.config / "config.toml"


@dataclass(frozen=True)
class Login:
    """A hub and the token that it knows this person by."""

    hub: str
    token: str
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"Login(hub={self.hub!r})"


def load_login(folders: UserFolders, environment: dict[str, str]) -> Login:
    """Environment first (`INSITU_HUB_URL`, `INSITU_TOKEN`), then what `insitu login` saved.

    Raises:
        AuthenticationError: nobody has logged in here.
    """
    saved = tomllib.loads(folders.settings.read_text()) if folders.settings.exists() else {}
    hub = environment.get("INSITU_HUB_URL") or saved.get("hub", "")
    token = environment.get("INSITU_TOKEN") or (folders.token.read_text().strip() if folders.token.exists() else "")
    if not hub or not token:
        raise AuthenticationError(
            "nobody is logged in here",
            code="not-logged-in",
            hint="run `insitu login HUB-URL`; it asks for a token from `insitu hub token create`",
        )
    return Login(hub=hub, token=token, ca_file=environment.get("SSL_CERT_FILE", ""))


def save_login(folders: UserFolders, login: Login) -> None:
    folders.config.mkdir(parents=True, exist_ok=True, mode=0o700)
    folders.config.chmod(0o700)
    _write_private(folders.settings, f'hub = "{login.hub}"\n')
    _write_private(folders.token, login.token + "\n")


def load_or_make_key(folders: UserFolders) -> SigningKey:
    """This person's signing key, made at the first login."""
    if folders.key.exists():
        return SigningKey.load(folders.key)
    key = SigningKey.generate()
    key.save(folders.key)
    return key


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    path.chmod(0o600)
