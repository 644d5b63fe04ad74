"""An upload over a wire that breaks: it goes on from what the hub has, and gives up when nothing comes through."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from insitu.agent.transfers import Standing, Upload
from insitu.domain.errors import UnreachableError

SIZE = 5


class SlowHub:
    """Takes what a wire brought some looks after that wire broke.

    Args:
        stands: what it says of the offset, look after look; the last one for ever.
        breaks: how many sendings break off.
    """

    def __init__(self, stands: Sequence[int], breaks: int) -> None:
        self._stands = list(stands)
        self._breaks = breaks
        self.sent_from: list[int] = []
        self.waited_s = 0.0

    def stands(self) -> Standing:
        return Standing(self._stands.pop(0) if len(self._stands) > 1 else self._stands[0], complete=False)

    def send(self, _file: object, offset: int, _size: int) -> None:
        self.sent_from.append(offset)
        if len(self.sent_from) <= self._breaks:
            raise UnreachableError("the wire broke", code="hub-unreachable")

    def pause(self, seconds: float) -> None:
        self.waited_s += seconds


def send_all(hub: SlowHub, folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(bytes(SIZE))
    with path.open("rb") as file:
        Upload(hub.stands, hub.send, hub.pause).finish(file)


def test_what_a_busy_hub_takes_after_the_break_counts_too(tmp_path):
    hub = SlowHub(stands=[0, 0, 0, 3], breaks=1)
    send_all(hub, tmp_path)
    assert hub.sent_from == [0, 3]


def test_it_gives_up_soon_when_nothing_comes_through(tmp_path):
    hub = SlowHub(stands=[0], breaks=9)
    with pytest.raises(UnreachableError):
        send_all(hub, tmp_path)
    assert hub.sent_from == [0]
    assert hub.waited_s < 2
