"""The client: `Client.from_env()`, then the nouns of the command line. Synchronous, typed.

    client = Client.from_env()
    with client.submit_and_follow("job.yaml", changes={"inputs.C": "0.5"}) as (job, events):
        for event in events:
            print(event.text)
    print(client.wait(job.id).state)

Errors are `insitu.domain.errors`: each has a code, what happened, why and a hint.
"""

from __future__ import annotations

import os

from insitu.sdk.config import UserFolders, load_login, load_or_make_key
from insitu.sdk.deployments import DeploymentCalls
from insitu.sdk.hub_calls import part
from insitu.sdk.images import registry_login
from insitu.sdk.jobs import JobCalls
from insitu.sdk.models import ModelCalls
from insitu.wire.people import NewToken, Role, TokenRequest, TokenView


class Client(JobCalls, ModelCalls, DeploymentCalls):
    """One hub, as one person, with that person's signing key."""

    @classmethod
    def from_env(cls) -> Client:
        """As `insitu login` left it, or as `INSITU_HUB_URL` and `INSITU_TOKEN` say.

        Raises:
            AuthenticationError: nobody has logged in here.
        """
        environment = dict(os.environ)
        folders = UserFolders.from_environment(environment)
        login = load_login(folders, environment)
        return cls(
            login,
            load_or_make_key(folders),
            cache=folders.cache,
            index_url=environment.get("INSITU_INDEX_URL") or None,
            registry=registry_login(environment.get("INSITU_REGISTRY_AUTH", "")),
        )

    def create_token(self, name: str, role: Role, *, days: int = 90) -> NewToken:
        return NewToken.model_validate(self._post("/api/v1/tokens", TokenRequest(name=name, role=role, days=days)))

    def tokens(self) -> list[TokenView]:
        return self._list("/api/v1/tokens", TokenView)

    def revoke_token(self, token_id: str) -> None:
        self._http.call("DELETE", f"/api/v1/tokens/{part(token_id)}")
