"""A steward's calls on a site's folder while no agent runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from insitu.agent.catalogue import data_cache, in_use
from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.main import only_one
from insitu.agent.policy_file import PolicyFile
from insitu.agent.settings import load_settings
from insitu.agent.steward import Steward
from insitu.agent.store import Store
from insitu.agent.stores.credentials import store_environment


@contextmanager
def offline_steward(folder: SiteFolder) -> Iterator[Steward]:
    """The same answers as an agent's console gives. No agent can start meanwhile.

    Raises:
        ConflictError: an agent runs after all.
    """
    import os

    settings = load_settings(folder)
    with only_one(folder):
        store, ledger = Store(folder.database), Ledger(folder.ledger)
        try:
            yield Steward(
                folder=folder,
                store=store,
                ledger=ledger,
                policy=PolicyFile(folder.policy),
                wake=lambda _job, _attempt: None,
                changed=lambda: None,
                gate_gid=settings.gate_gid if os.geteuid() == 0 else None,
                cache=Path(settings.cache) if settings.cache else folder.cache,
                data=data_cache(folder, in_use=in_use(folder, store)),
                environment=store_environment(os.environ),
                now=lambda: store.floor_clock(datetime.now(UTC)),
            )
        finally:
            ledger.close()
            store.close()
