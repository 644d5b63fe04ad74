"""The parts of one hub, as `build_app` puts them together and the other layers find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from insitu.hub.bell import Bell
from insitu.hub.blobs import Blobs
from insitu.hub.settings import HubSettings
from insitu.hub.store.session import Store
from insitu.hub.tracking import Tracking
from insitu.hub.wheels import Wheels
from insitu.images.layout import OciLayout
from insitu.wire.keys import SigningKey

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Parts:
    settings: HubSettings
    store: Store
    bell: Bell
    blobs: Blobs
    wheels: Wheels
    images: OciLayout
    key: SigningKey
    tracking: Tracking
    clock: Clock

    def away_before(self) -> datetime:
        """A site that was last heard of before this is out of reach."""
        return self.clock() - self.settings.away_after
