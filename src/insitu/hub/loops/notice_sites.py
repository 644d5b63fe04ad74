"""Notices what nobody says: a site that fell silent, and a wake-up that another hub process gave.

A silent site's jobs stay what they are; its link is shown as away. That is worked out
when somebody looks, so what is left to do here is to tell those who are looking.
"""

from __future__ import annotations

import logging
from datetime import datetime

from insitu.hub.loops.base import Loop
from insitu.hub.parts import Parts
from insitu.hub.store import sites

_log = logging.getLogger("insitu.hub")


class NoticeSites:
    """Remembers what it saw the last time."""

    def __init__(self) -> None:
        self._changes: dict[str, int] = {}
        self._looked_before: datetime | None = None

    def step(self, parts: Parts) -> None:
        before = parts.away_before()
        with parts.store.read() as session:
            silent = sites.went_away(session, before=before, after=self._looked_before) if self._looked_before else []
            changes = sites.changes(session) if parts.store.on_postgres else {}
        for site in silent:
            _log.warning("site %s is out of reach: nothing heard for %s", site, parts.settings.away_after)
        for site, count in changes.items():
            if self._changes.get(site, count) != count:
                parts.bell.ring(sites.topic(site))
        self._changes, self._looked_before = changes, before


def loop() -> Loop:
    return Loop("notice-sites", "", 1.0, NoticeSites().step, everywhere=True)
