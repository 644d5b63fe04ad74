"""The site's policy as it is now. A file that can't be read is no policy, and no policy denies all."""

from __future__ import annotations

import threading
from pathlib import Path

from insitu.domain.errors import DeniedError, InsituError
from insitu.gate.policy.loading import Policy, load_policy


class PolicyFile:
    """Reads `policy.yaml` again when it changed, so that a stricter one applies at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._policy: Policy | None = None
        self._text = ""
        self._error: InsituError | None = None

    def current(self) -> Policy | None:
        """The policy, or None when there is none that can be read."""
        with self._lock:
            self._refresh()
            return self._policy

    def require(self) -> Policy:
        """The policy.

        Raises:
            DeniedError: there is none that can be read; it says why.
        """
        with self._lock:
            self._refresh()
            if self._policy is None:
                reason = self._error
                raise DeniedError(
                    "this site has no readable policy, so nothing runs and nothing leaves",
                    code="no-policy",
                    rule="policy",
                    why=reason.code if reason else "",
                    hint="at the site: `insitu policy check`",
                )
            return self._policy

    @property
    def text(self) -> str:
        """The text that `current` was read from."""
        with self._lock:
            self._refresh()
            return self._text if self._policy else ""

    @property
    def error(self) -> InsituError | None:
        """Why there is no policy, for people at the site."""
        with self._lock:
            self._refresh()
            return self._error

    def _refresh(self) -> None:
        seen = None
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen:
                return
            text = self._path.read_text()
            self._policy, self._text, self._error = load_policy(text), text, None
            self._seen = seen
        except InsituError as exc:
            self._policy, self._text, self._error, self._seen = None, "", exc, seen
        except (OSError, UnicodeDecodeError):
            self._policy, self._text, self._seen = None, "", None
            self._error = DeniedError(
                "policy.yaml can't be read", code="no-policy", hint="`insitu agent init` writes one"
            )
