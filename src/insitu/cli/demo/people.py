"""Who acts in the demo: three people with a key each, as three folders of user settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from insitu.sdk.client import Client
from insitu.sdk.config import Login, UserFolders, load_or_make_key, save_login
from insitu.wire.people import Role

ROLES = (Role.DATA_SCIENTIST, Role.STEWARD, Role.ML_ENGINEER)


@dataclass(frozen=True)
class People:
    """By their role, which is also their name."""

    clients: dict[Role, Client]
    folders: dict[Role, UserFolders]

    @property
    def data_scientist(self) -> Client:
        return self.clients[Role.DATA_SCIENTIST]

    @property
    def steward(self) -> Client:
        return self.clients[Role.STEWARD]

    @property
    def ml_engineer(self) -> Client:
        return self.clients[Role.ML_ENGINEER]

    def fingerprint(self, role: Role) -> str:
        return self.clients[role].fingerprint

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


def log_everybody_in(hub: str, admin_token: Path, folder: Path, cache: Path) -> People:
    """Tokens from the hub's admin, keys of their own, and `insitu login` for each.

    Args:
        hub: its address.
        admin_token: file with the first token, which the hub wrote for its own user.
        folder: gets a configuration folder for each.
        cache: of locks; shared, since it is the same person's machine in the end.
    """
    clients: dict[Role, Client] = {}
    folders: dict[Role, UserFolders] = {}
    admin_folders = UserFolders(config=folder / "admin", cache=cache)
    admin_login = Login(hub=hub, token=admin_token.read_text().strip())
    save_login(admin_folders, admin_login)
    with Client(admin_login, load_or_make_key(admin_folders), cache=cache) as admin:
        for role in ROLES:
            own = UserFolders(config=folder / role.value, cache=cache)
            token = admin.create_token(role.value, role, days=1).token
            login = Login(hub=hub, token=token)
            save_login(own, login)
            clients[role] = Client(login, load_or_make_key(own), cache=cache)
            clients[role].register_key()
            folders[role] = own
    return People(clients, folders)
