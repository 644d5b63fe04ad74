"""A job rehearsed on this machine: a site for a moment, with made-up data and nobody to send anything to.

    mock files ─► data added ─► the attempt's own steps (accept … judge … release) ─► what the hub would have been told

It is the site's code and no copy of it: the same checks, sandbox, gate and budgets. Only
the link is another one, which hands out the job's code and lock, and keeps what it is
given instead of sending it. Nothing of the site that the policy is from takes part, so
what only it knows is not rehearsed: what was spent this month, run envelopes, its data.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.agent.attempt import Attempt
from insitu.agent.attempts import AttemptRunner
from insitu.agent.catalogue import add_dataset
from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.hub_link import HubLink
from insitu.agent.main import build_site
from insitu.agent.settings import AgentSettings, save_settings
from insitu.agent.site import Site
from insitu.domain.digests import Digest
from insitu.domain.errors import InvalidInputError, NotFoundError, UnavailableError, UnreachableError
from insitu.domain.jobs import JobState
from insitu.gate.channels.hints import KeptLine, read_kept
from insitu.images.base import UnpackedBase, build_base, unpack_base
from insitu.images.layout import OciLayout
from insitu.images.locks import parse_lock
from insitu.images.wheel_download import WheelDownload, WheelSource
from insitu.images.wheel_store import WheelStore
from insitu.intake.request import LOGS
from insitu.wire.envelopes import Envelope
from insitu.wire.events import EventBatch
from insitu.wire.keys import SigningKey
from insitu.wire.wheels import WheelsReply, WheelsRequest

_JOB = "j-rehearsal"
_LEAVES = ("batch", "file", "card")
_LOOK_S = 0.5  # between two looks at where it stands
_SAID_BYTES = 4000
_DOWNLOADS = 6  # at once

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Desk:
    """Where one rehearses: a machine's caches, and the base that jobs run on here."""

    cache: Path
    base_layout: Path
    sandbox: str | None = None
    index_url: str | None = None

    @property
    def bases(self) -> Path:
        return self.cache / "bases"

    def base(self, progress: Progress) -> UnpackedBase:
        """The base of this desk, unpacked; built first (half a minute) where the desk's own layout holds none.

        Raises:
            InvalidInputError: the layout that was named holds none, or several.
        """
        self.bases.mkdir(parents=True, exist_ok=True)
        if self.base_layout == self.cache / "base":
            build_base(OciLayout(self.base_layout), work_dir=self.cache, progress=progress)
        elif not self.base_layout.is_dir():
            raise InvalidInputError(f"there is no base layout {self.base_layout}", code="no-base")
        layout = OciLayout(self.base_layout, create=False)
        found = layout.list()
        if len(found) != 1:
            raise InvalidInputError(
                f"{self.base_layout} holds {len(found)} bases", code="which-base", hint="name a layout with one base"
            )
        return unpack_base(layout, found[0].digest, self.bases)


@dataclass(frozen=True)
class MockFiles:
    """What a dataset is rehearsed with. Several versions of one name are added in their order, as 1, 2, …"""

    name: str
    format: str
    files: Sequence[Path]


@dataclass
class Rehearsed:
    """What became of it, and what the hub would have been told."""

    state: JobState
    reason: dict[str, Any]
    """Of a state that is no success: code, what, rule, measure, limit, hint."""
    outputs: list[dict[str, Any]]
    """The decisions, as the hub would see them."""
    released: dict[str, int]
    """Metric values, params, tags, log lines that would leave."""
    kept: list[KeptLine]
    kept_counts: dict[str, int]
    """Class of thing → how many stayed because nobody declared them."""
    size_bytes: int
    """What it would spend of the budgets."""
    ceiling_bytes: int
    sandbox: str
    said: str = ""
    """The end of what the script said to standard error, in full: the data are made up, so it may be seen here."""


class _RehearsalLink(HubLink):
    """Hands out the job's blobs and the packages of its lock, and keeps what would have been sent."""

    def __init__(
        self, blobs: Mapping[str, bytes], files: Mapping[str, Path], wheels: WheelStore, source: WheelSource
    ) -> None:
        # Nothing of the real link is made: there is no hub, and no connection could be opened by mistake.
        self._blobs, self._files, self._wheels, self._source = blobs, files, wheels, source
        self.events: dict[int, dict[str, Any]] = {}

    def close(self) -> None: ...

    def send_events(self, batch: bytes) -> int:
        events = EventBatch.model_validate_json(batch).events
        self.events |= {event.seq: event.model_dump(mode="json") for event in events}
        return events[-1].seq

    def ask_for_wheels(self, request: WheelsRequest) -> WheelsReply:
        """One's own lock, on one's own machine: what a hub would fetch, the desk fetches."""
        packages = parse_lock(self._blobs[request.lock]).packages
        named = {wheel.sha256: wheel for package in packages for wheel in package.wheels}
        download = WheelDownload(self._source)
        try:
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                list(pool.map(lambda sha256: download.fetch(named[sha256], self._wheels), request.wanted))
        except UnreachableError as exc:  # of a hub that is away one would wait for its return
            raise UnavailableError(exc.what, code=exc.code, why=exc.why, hint=exc.hint) from exc
        finally:
            download.close()
        return WheelsReply(here=request.wanted)

    def fetch_blob(self, digest: Digest, target: Path) -> None:
        file = self._wheels.by_sha256(digest.removeprefix("sha256:")) or self._files.get(digest)
        if file is not None:
            work = target.with_name(f".{target.name}.part")
            shutil.copyfile(file, work)
            work.replace(target)
            return
        if digest not in self._blobs:
            raise NotFoundError(f"the job names a blob that did not come with it: {digest}", code="no-blob")
        target.write_bytes(self._blobs[digest])

    def upload(self, path: Path, digest: Digest) -> None:
        del path, digest

    def send_release(self, envelope: Envelope) -> None:
        del envelope

    def send_card(self, envelope: Envelope) -> None:
        del envelope


def rehearse(
    envelope: Envelope,
    blobs: Mapping[str, bytes],
    *,
    files: Mapping[str, Path],
    policy: str,
    data: Sequence[MockFiles],
    desk: Desk,
    base: UnpackedBase,
    progress: Progress = lambda _: None,
) -> Rehearsed:
    """Run a signed job here, on mock data, under a policy.

    Args:
        files: the parts of the image that the job runs in, if it brings one.
        envelope: signed with a key that `policy` lists; it names the datasets in `data` by name and order.
        policy: a policy file's text, which lists `base`.

    Raises:
        InvalidInputError: the policy or the mock files are not right.
        UnavailableError: no sandbox works on this machine.
    """
    with _site(blobs, files, policy, data, desk, base) as (site, link):
        fields = envelope.model_dump(mode="json")
        site.store.put_assignment(_JOB, 1, 1, fields)
        row = site.store.attempt(_JOB, 1)
        if row is None:  # it was put there a line before
            raise UnavailableError("the rehearsal's own store lost the job", code="rehearsal")
        runner = _Runner(site, row, changed=lambda: None)
        runner.start()
        _follow(runner, progress)
        return _told(runner, site, link)


@contextmanager
def _site(
    blobs: Mapping[str, bytes],
    files: Mapping[str, Path],
    policy: str,
    data: Sequence[MockFiles],
    desk: Desk,
    base: UnpackedBase,
) -> Iterator[tuple[Site, _RehearsalLink]]:
    root = Path(tempfile.mkdtemp(prefix="insitu-rehearsal-"))
    try:
        root.chmod(0o711)  # the gate's processes have a user of their own, and walk through it
        folder = SiteFolder(root / "site")
        folder.root.mkdir(mode=0o700)
        folder.bases.symlink_to(desk.bases.absolute())
        settings = AgentSettings(
            site="rehearsal",
            hub="http://rehearsal.invalid",
            base=base.digest,
            base_layout=str(desk.base_layout.absolute()),
            cache=str((desk.cache / "rehearsals").absolute()),
            sandbox=desk.sandbox,  # type: ignore[arg-type] - the settings refuse any other word
            warm=0,
        )
        gate_gid = settings.gate_gid if os.geteuid() == 0 else None
        folder.make(gate_gid=gate_gid)
        SigningKey.generate().save(folder.key)
        folder.policy.write_text(policy)
        save_settings(folder, settings)
        _add(folder, data, root / "mock", gate_gid)
        source = WheelSource(index_url=desk.index_url or "", hosts=None)
        link = _RehearsalLink(blobs, files, WheelStore(desk.cache / "wheels"), source)
        with build_site(folder, settings, link=link) as site:
            yield site, link
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _add(folder: SiteFolder, data: Sequence[MockFiles], mock: Path, gate_gid: int | None) -> None:
    mock.mkdir(mode=0o700)
    add_datastore(folder, "mock", str(mock))
    for number, one in enumerate(data):
        target = mock / str(number)
        target.mkdir()
        for file in one.files:
            shutil.copyfile(file, target / file.name)
        add_dataset(
            folder, one.name, datastore="mock", pattern=f"{number}/*", kind=one.format or "csv", gate_gid=gate_gid
        )


class _Runner(AttemptRunner):
    """Reads what the script said before its workspace is removed."""

    said = ""

    def _finish(self, attempt: Attempt) -> None:
        self.said = _end_of(attempt.workspace.intake / LOGS / "stderr.log")
        super()._finish(attempt)


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _SAID_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def _follow(runner: AttemptRunner, progress: Progress) -> None:
    """Until it is over or held; Ctrl-C ends the sandbox first."""
    try:
        while runner.thread.is_alive():
            progress(f"rehearsing: {runner.row.state.value}")
            runner.thread.join(_LOOK_S)
    except BaseException:
        runner.cancel()
        runner.thread.join()
        raise


def _told(runner: _Runner, site: Site, link: _RehearsalLink) -> Rehearsed:
    events = [link.events[seq] for seq in sorted(link.events)]
    logs = [event for event in events if event["kind"] == "log"]
    lines = [event["text"] for event in logs if event["stream"] == "site"]
    counts = Counter(event["kind"] for event in events if event["kind"] in ("metric", "param", "tag"))
    counts["log line"] = sum(event["stream"] != "site" for event in logs)
    stayed = Counter[str]()
    for event in events:
        if event["kind"] == "kept":
            stayed[event["what"]] += event["count"]
    last = {event["output"]: event for event in events if event["kind"] == "decision"}
    states = [event for event in events if event["kind"] == "state"]
    entries = [entry for entry in site.ledger.entries() if entry.job_id == _JOB and entry.kind in _LEAVES]
    return Rehearsed(
        state=runner.row.state,
        reason={key: states[-1][key] for key in _REASON if states and states[-1].get(key)},
        outputs=[{key: value for key, value in one.items() if key in _DECISION} for one in last.values()],
        released={kind: number for kind, number in counts.items() if number},
        kept=[found for line in lines if (found := read_kept(line)) is not None],
        kept_counts=dict(stayed),
        size_bytes=sum(entry.size_bytes for entry in entries),
        ceiling_bytes=sum(entry.ceiling_bytes for entry in entries),
        sandbox=site.sandbox.name,
        said=runner.said,
    )


_REASON = ("failure", "code", "what", "rule", "measure", "limit", "hint")
_DECISION = ("output", "verdict", "rule", "measure", "limit", "hint", "findings", "size_bytes")
