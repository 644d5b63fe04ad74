"""What anybody may ask of the hub itself."""

from __future__ import annotations

from insitu.hub.store import people
from insitu.hub.store.session import Store


def check_database(store: Store) -> None:
    """Raise unless the database answers.

    Raises:
        UnavailableError: it doesn't.
    """
    with store.read() as session:
        people.any_token(session)
