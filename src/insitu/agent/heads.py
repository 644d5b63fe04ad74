"""Keeps the newest countersigned head beside the ledger, for whoever checks it without agent and hub."""

from __future__ import annotations

import base64
import os

from insitu.agent.site import Site
from insitu.wire.heads import CountersignedHead
from insitu.wire.sync import HeadReport, head_message


def keep_countersigned(site: Site, head: HeadReport) -> None:
    """Write it whole or not at all. It is not waited for: the hub has it too, and says it again."""
    name = site.settings.site
    signature = site.key.sign(head_message(name, head.entries, head.hash, head.root))
    document = CountersignedHead(
        site=name,
        entries=head.entries,
        hash=head.hash,
        root=head.root,
        site_key=site.key.public.text,
        site_signature=base64.b64encode(signature).decode(),
        hub_key=site.settings.hub_key,
        hub_signature=head.signature,
    )
    work = site.folder.ledger_head.with_suffix(".making")
    work.write_text(document.model_dump_json(indent=1) + "\n")
    os.replace(work, site.folder.ledger_head)  # noqa: PTH105 - the same call, with its guarantee in its name
