"""`insitu agent init`: make a site's folder and join it to a hub, whole or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from insitu.agent.folder import SiteFolder, write_atomic
from insitu.agent.hub_link import HubLink
from insitu.agent.settings import AgentSettings, save_settings
from insitu.domain.digests import parse_digest
from insitu.domain.errors import ConflictError, InvalidInputError
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT
from insitu.gate.policy.schema import policy_schema_text
from insitu.images.base import unpack_base
from insitu.images.layout import OciLayout
from insitu.wire.keys import SigningKey


@dataclass(frozen=True)
class Joined:
    """A site that may start."""

    site: str
    fingerprint: str
    base: str


def init_site(root: Path, settings: AgentSettings, join_token: str) -> Joined:
    """Make the folder, a key that never leaves it, a commented policy that lets nothing out, and join.

    Args:
        root: the site's folder; new, or left by a try that failed.
        settings: `hub` and `base_layout` at least.
        join_token: one-time; from `insitu site create` at the hub.

    Raises:
        ConflictError: the folder is a site's already.
        AuthenticationError: the token is unknown, used or expired; nothing is left behind.
    """
    folder = SiteFolder(root)
    if folder.settings.exists():
        raise ConflictError(
            f"{root} is a site's folder already",
            code="site-exists",
            hint="start it with `insitu agent start`, or give another --dir",
        )
    fresh = not root.exists()
    try:
        folder.make(gate_gid=settings.gate_gid if os.geteuid() == 0 else None)
        base = choose_base(folder, settings)
        key = _key(folder)
        link = HubLink(settings.hub, ca_file=settings.ca_file)
        try:
            reply = link.join(join_token, key.public.text)
        finally:
            link.close()
    except BaseException:
        if fresh:
            shutil.rmtree(root, ignore_errors=True)
        raise
    if not folder.policy.exists():
        write_atomic(folder.policy, DEFAULT_POLICY_TEXT.encode())
    write_atomic(folder.policy_schema, policy_schema_text().encode())
    joined = settings.model_copy(update={"site": reply.site, "hub_key": reply.hub_key, "base": base})
    save_settings(folder, joined)
    return Joined(site=reply.site, fingerprint=key.fingerprint, base=base)


def _key(folder: SiteFolder) -> SigningKey:
    if folder.key.exists():
        return SigningKey.load(folder.key)
    key = SigningKey.generate()
    key.save(folder.key)
    return key


def choose_base(folder: SiteFolder, settings: AgentSettings) -> str:
    """The digest of the base that jobs run on, unpacked and ready.

    Raises:
        InvalidInputError: no layout is named, or it holds several bases and none is chosen.
    """
    if not settings.base_layout:
        raise InvalidInputError(
            "no base is named, so there is nothing that jobs could run on",
            code="no-base",
            hint="make one with `make base-image`, then give its folder as --base-layout",
        )
    layout = OciLayout(Path(settings.base_layout), create=False)
    if settings.base:
        digest = parse_digest(settings.base)
    else:
        found = layout.list()
        if len(found) != 1:
            raise InvalidInputError(
                f"{settings.base_layout} holds {len(found)} bases",
                code="which-base",
                hint="name one with --base sha256:…",
            )
        digest = found[0].digest
    unpack_base(layout, digest, folder.bases)
    return digest
