"""Where things lie at a site: one folder, readable by the agent's user alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.errors import InvalidInputError, NotFoundError

_LONGEST_SOCKET = "/run/01234567.c/s"


@dataclass(frozen=True)
class SiteFolder:
    """The agent's `--dir`."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "agent.yaml"

    @property
    def key(self) -> Path:
        return self.root / "site-key"  # Ed25519, mode 0600; proves who this site is

    @property
    def index_key(self) -> Path:
        return self.root / "index-key"  # 32 bytes, mode 0600; keys dataset digests and indexes

    @property
    def policy(self) -> Path:
        return self.root / "policy.yaml"

    @property
    def policy_schema(self) -> Path:
        return self.root / "policy.schema.json"  # for editors; nothing here reads it

    @property
    def run_envelopes(self) -> Path:
        return self.root / "run-envelopes.db"  # what reviewers approved in advance, and the runs of it

    @property
    def datastores(self) -> Path:
        return self.root / "datastores.yaml"  # mode 0600: it holds the stores' credentials

    @property
    def database(self) -> Path:
        return self.root / "agent.db"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def ledger_head(self) -> Path:
        return self.root / "ledger-head.json"  # the newest one that the hub has countersigned

    @property
    def console(self) -> Path:
        return self.root / "console.sock"

    @property
    def lock(self) -> Path:
        return self.root / "agent.lock"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def bases(self) -> Path:
        return self.root / "bases"

    @property
    def base_layout(self) -> Path:
        return self.root / "base-layout"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def held(self) -> Path:
        return self.root / "held"

    @property
    def deployments(self) -> Path:
        return self.root / "deployments"

    @property
    def run(self) -> Path:
        return self.root / "run"  # sockets and pids of what runs now

    def make(self, *, gate_gid: int | None = None) -> None:
        """Make the folder and its rooms, closed to everybody else.

        Args:
            gate_gid: host group of the gate's processes, which must reach the indexes
                and the jobs' folders; none when the agent is an ordinary user and
                they run as that user too.
        """
        self._check_length()
        for path in (
            self.root,
            self.jobs,
            self.datasets,
            self.bases,
            self.cache,
            self.held,
            self.deployments,
            self.run,
        ):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        if gate_gid is not None:
            for path in (self.root, self.datasets, self.jobs, self.run):
                open_to_gate(path, gate_gid)

    def _check_length(self) -> None:
        """A unix socket's path has at most 107 bytes (unix(7)), and each job has two below this folder.

        Raises:
            InvalidInputError: the folder's own path leaves too little room.
        """
        length, limit = len(os.fsencode(self.root.absolute())), 107 - len(_LONGEST_SOCKET)
        if length > limit:
            raise InvalidInputError(
                f"the path of the site's folder is too long: {self.root}",
                code="path-too-long",
                measure=f"{length} bytes",
                limit=f"{limit} bytes",
                hint="choose a shorter one, e.g. /srv/site",
            )

    def check_is_site(self) -> None:
        """Raise unless `agent init` made this folder."""
        if not self.settings.exists():
            raise NotFoundError(
                f"{self.root} is not a site's folder",
                code="no-site-folder",
                hint="make one with `insitu agent init --dir DIR --hub URL`, or name it with --dir",
            )


def open_to_gate(folder: Path, gid: int) -> None:
    """Let the gate's group walk through `folder` without listing it."""
    os.chown(folder, -1, gid)
    folder.chmod(0o710)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` whole or not at all, durably."""
    work = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
