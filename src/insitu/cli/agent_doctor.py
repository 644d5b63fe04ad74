"""What `insitu agent doctor` looks at. Each sandbox is tried, not guessed; nothing is changed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from insitu.agent.folder import SiteFolder
from insitu.agent.settings import AgentSettings, load_settings
from insitu.cli.doctor import Check, attempt, private_file
from insitu.domain.errors import UnreachableError
from insitu.domain.quantities import format_bytes
from insitu.gate.policy.loading import load_policy
from insitu.images.layout import OciLayout
from insitu.sandbox.contract import SANDBOXES, Capabilities, SandboxSettings, open_sandbox
from insitu.wire.ledger import verify

_ROOM_BYTES = 2 << 30
_MAX_SKEW_S = 120.0


def checks(root: Path | None) -> Iterator[Check]:
    """Everything, cheapest last where it can fail alone. Without a folder: this machine only."""
    settings = None
    if root is not None:
        folder = SiteFolder(root)
        settings = load_settings(folder)
        yield Check("site", "ok", f"{settings.site} in {root}")
    yield from _sandboxes(settings.sandbox if settings else None)
    yield _uv()
    yield _disk(root or Path.cwd())
    if root is None or settings is None:
        return
    folder = SiteFolder(root)
    yield private_file("site key", folder.key)
    for name, path in (("index key", folder.index_key), ("datastores", folder.datastores)):
        if path.exists():
            yield private_file(name, path)
    yield attempt("policy", lambda: _policy(folder))
    yield attempt("base", lambda: _base(settings))
    yield attempt("ledger", lambda: _ledger(folder))
    yield attempt("hub", lambda: _hub(settings))


def _sandboxes(wanted: str | None) -> Iterator[Check]:
    """One works at least, and the one that is wanted does; of the others it is only said."""
    with tempfile.TemporaryDirectory(prefix="insitu-doctor-") as state:
        settings = SandboxSettings(state_dir=Path(state))
        found = [open_sandbox(name, settings).probe() for name in SANDBOXES]
    one_works = any(probe.available for probe in found)
    for probe in found:
        needed = probe.name == wanted or (wanted is None and not one_works)
        yield _sandbox(probe, needed=needed)


def _sandbox(probe: Capabilities, *, needed: bool) -> Check:
    if not probe.available:
        return Check(probe.name, "failed" if needed else "warning", f"does not work here: {probe.why_not}", probe.hint)
    how: dict[str, list[str]] = {}
    for limit, mechanism in (probe.enforced or {}).items():
        how.setdefault(mechanism, []).append(limit)
    limits = "; ".join(f"{', '.join(sorted(names))} by {mechanism}" for mechanism, names in sorted(how.items()))
    user = ", rootless" if probe.rootless else ""
    return Check(probe.name, "ok", f"{probe.version or 'works'}{user}: {limits}")


def _uv() -> Check:
    found = shutil.which("uv")
    return Check("uv", "ok", found) if found else Check("uv", "failed", "uv is not on PATH", "pip install uv")


def _disk(place: Path) -> Check:
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    level = "ok" if free >= _ROOM_BYTES else "warning"
    return Check("disk", level, f"{format_bytes(free)} free in {existing}")


def _policy(folder: SiteFolder) -> Check:
    policy = load_policy(folder.policy.read_text())
    if not policy.signers or not policy.bases:
        return Check("policy", "warning", f"version {policy.version} lets nothing run", "name signers and bases in it")
    return Check("policy", "ok", f"version {policy.version}, {len(policy.signers)} signers")


def _base(settings: AgentSettings) -> Check:
    layout = OciLayout(Path(settings.base_layout), create=False)
    here = {entry.digest for entry in layout.list()}
    if settings.base is None or settings.base not in here:
        return Check("base", "failed", f"{settings.base} is not in {settings.base_layout}", "`make base-image`")
    return Check("base", "ok", f"{settings.base[:19]} in {settings.base_layout}")


def _ledger(folder: SiteFolder) -> Check:
    if not folder.ledger.exists():
        return Check("ledger", "ok", "nothing has left yet")
    with folder.ledger.open("rb") as stream:
        head = verify(stream)
    return Check("ledger", "ok", f"{head.entries} entries, each bound to the one before it")


def _hub(settings: AgentSettings) -> Check:
    try:
        reply = httpx.get(f"{settings.hub}/healthz", timeout=10, verify=settings.ca_file or True)
        reply.raise_for_status()
    except httpx.HTTPError as exc:
        raise UnreachableError(
            f"{settings.hub} does not answer", why=type(exc).__name__, hint="check the address, the proxy and the hub"
        ) from exc
    said = reply.headers.get("date")
    skew_s = abs((parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()) if said else 0.0
    if skew_s > _MAX_SKEW_S:
        return Check("hub", "failed", f"its clock differs by {skew_s:.0f} s", "signatures carry times: set the clocks")
    return Check("hub", "ok", f"{settings.hub}, clocks agree")
