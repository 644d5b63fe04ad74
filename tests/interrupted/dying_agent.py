"""An agent that kills itself with SIGKILL at one labelled point of an attempt's life.

    python -m tests.interrupted.dying_agent --die POINT:STATE --dir DIR --ready-fd N

Points, for the step that leads to STATE:
    before-saying   the step is done, nothing of it was said or recorded
    before-saving   it was said (journal), and is not recorded
    after-saving    it was said and recorded
    before-going    sandbox and gate have their requests, and no code has been let run      (STATE is not looked at)
    after-going     the code was let run, and nobody has waited for its gate yet             (STATE is not looked at)
    after-ledger    the first ledger entry of a released file is on disk, nothing was sent   (STATE is not looked at)
    after-sending   the hub has the release, and the agent does not know                     (STATE is not looked at)
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from insitu.agent import main, releasing
from insitu.agent.attempt import Attempt, Next
from insitu.agent.hub_link import HubLink
from insitu.agent.ledger import Ledger
from insitu.agent.store import Store
from insitu.sandbox.keeper_pool import KeeperHandle, StartingKeeper
from insitu.wire.ledger import LedgerEntry

assert releasing  # imported first, so that what is patched below is what it uses


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(point: str, state: str) -> None:
    """Patch the one call after (or before) which the agent dies."""
    advance, save_state, append, send = Attempt.advance, Store.save_state, Ledger.append, HubLink.send_release
    go = StartingKeeper.go

    def dying_advance(self: Attempt, outcome: Next) -> None:
        if point == "before-saying" and outcome.state == state:
            die()
        advance(self, outcome)
        if point == "after-saving" and outcome.state == state:
            die()

    def dying_save(self: Store, row: Any, new: Any, **details: object) -> None:
        if point == "before-saving" and new == state:
            die()
        save_state(self, row, new, **details)

    def dying_append(self: Ledger, entry: LedgerEntry) -> LedgerEntry:
        written = append(self, entry)
        if point == "after-ledger" and written.kind == "file":
            die()
        return written

    def dying_send(self: HubLink, envelope: Any) -> None:
        send(self, envelope)
        if point == "after-sending":
            die()

    def dying_go(self: StartingKeeper) -> KeeperHandle:
        if point == "before-going":
            die()
        handle = go(self)
        if point == "after-going":
            die()
        return handle

    StartingKeeper.go = dying_go
    Attempt.advance, Store.save_state = dying_advance, dying_save  # type: ignore[method-assign]
    Ledger.append, HubLink.send_release = dying_append, dying_send


if __name__ == "__main__":
    flag, where, *rest = sys.argv[1:]
    assert flag == "--die"
    plant(*where.split(":"))
    raise SystemExit(main.main(rest))
