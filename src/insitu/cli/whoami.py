"""`insitu whoami`: whom the hub takes one for, and the key that one signs with."""

from __future__ import annotations

from insitu.cli import session
from insitu.cli.commands import single
from insitu.cli.output import current, fields


def whoami() -> None:
    """Whom the hub takes you for, and the fingerprint of the key on this machine, which a steward lists."""
    out = current()
    with session.hub() as client:
        me = client.whoami()
        found = {"hub": client.hub, "name": me.name, "role": me.role.value, "fingerprint": client.fingerprint}
    out.show(found, fields(found), name=me.name)
    if me.key != found["fingerprint"]:
        out.note("The hub has another key of yours, or none: `insitu login` registers the one on this machine.")


app = single(whoami)
