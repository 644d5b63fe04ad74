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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel

from insitu.domain.digests import Digest
from insitu.domain.errors import InvalidInputError, NotFoundError, UnavailableError
from insitu.domain.jobs import is_final
from insitu.images.registry import RegistrySettings
from insitu.sdk import job_events
from insitu.sdk.bundles import BroughtWheels, bring_bundle
from insitu.sdk.config import Login, UserFolders, load_login, load_or_make_key
from insitu.sdk.images import registry_login
from insitu.sdk.job_events import JobEvent
from insitu.sdk.submit import PreparedJob, prepare_job
from insitu.sdk.transport import MissingBlobsError, Transport
from insitu.wire.deployments import DeployedModel, ServingResources, sign_deployment
from insitu.wire.envelopes import Envelope
from insitu.wire.keys import SigningKey
from insitu.wire.people import (
    AliasRequest,
    DatasetView,
    DeploymentRequest,
    DeploymentView,
    EgressItem,
    ImageRequest,
    ImageView,
    JobRequest,
    JobView,
    KeyRequest,
    LogLine,
    MeterView,
    MetricPoint,
    ModelVersionView,
    NewSite,
    NewToken,
    ReleaseView,
    Role,
    SitePolicyView,
    SiteRequest,
    SiteView,
    TagRequest,
    TokenRequest,
    TokenView,
    WhoAmI,
)

View = TypeVar("View", bound=BaseModel)

_POLL_S = 0.5
_POLL_DEPLOYMENT_S = 0.2


class Client:
    """One hub, as one person, with that person's signing key."""

    def __init__(
        self,
        login: Login,
        key: SigningKey,
        *,
        cache: Path,
        index_url: str | None = None,
        registry: RegistrySettings | None = None,
        carrier: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = Transport(login, carrier=carrier)
        self._key = key
        self._cache = cache
        self._index_url = index_url
        self._registry = registry
        self._me: WhoAmI | None = None

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def hub(self) -> str:
        return self._http.hub

    @property
    def fingerprint(self) -> str:
        """Of this person's key: what a steward lists under `signers`."""
        return self._key.fingerprint

    # -- who -----------------------------------------------------------------------------------------------------------

    def whoami(self) -> WhoAmI:
        return WhoAmI.model_validate(self._http.call("GET", "/api/v1/whoami"))

    def register_key(self) -> WhoAmI:
        """Tell the hub this person's public key, for display; sites know it by their policy only."""
        self._me = WhoAmI.model_validate(
            self._http.call("PUT", "/api/v1/me/key", json=KeyRequest(public_key=self._key.public.text).model_dump())
        )
        return self._me

    def create_token(self, name: str, role: Role, *, days: int = 90) -> NewToken:
        return NewToken.model_validate(self._post("/api/v1/tokens", TokenRequest(name=name, role=role, days=days)))

    def tokens(self) -> list[TokenView]:
        return self._list("/api/v1/tokens", TokenView)

    def revoke_token(self, token_id: str) -> None:
        self._http.call("DELETE", f"/api/v1/tokens/{_part(token_id)}")

    # -- sites and data ------------------------------------------------------------------------------------------------

    def create_site(self, name: str, labels: Mapping[str, str] | None = None) -> NewSite:
        return NewSite.model_validate(self._post("/api/v1/sites", SiteRequest(name=name, labels=dict(labels or {}))))

    def new_join_token(self, name: str) -> NewSite:
        """Another one-time token for a site whose agent has not joined yet."""
        return NewSite.model_validate(self._http.call("POST", f"/api/v1/sites/{_part(name)}/join-token"))

    def dataset(self, name: str, version: int | None = None, *, site: str | None = None) -> DatasetView:
        """A dataset version that a site offers; the newest, where none is named.

        Raises:
            NotFoundError: nobody offers it.
        """
        known = [one for one in self.datasets() if one.name == name and version in (None, one.version)]
        found = [one for one in known if site in (None, one.site)]
        if not found:
            label = name if version is None else f"{name}@{version}"
            where = f"site {site} does not offer" if site else "no site offers"
            raise NotFoundError(f"{where} a dataset {label!r}", code="no-dataset", hint="see `insitu data list`")
        return max(found, key=lambda one: one.version)

    def sites(self) -> list[SiteView]:
        return self._list("/api/v1/sites", SiteView)

    def site(self, name: str) -> SiteView:
        return SiteView.model_validate(self._http.call("GET", f"/api/v1/sites/{_part(name)}"))

    def datasets(self) -> list[DatasetView]:
        return self._list("/api/v1/datasets", DatasetView)

    def croissant(self, name: str, version: int | None = None, *, site: str | None = None) -> dict[str, Any]:
        """A dataset version as Croissant 1.1, JSON-LD; the newest, where none is named."""
        asked = {key: value for key, value in (("version", version), ("site", site)) if value is not None}
        query = f"?{urlencode(asked)}" if asked else ""
        return self._http.call("GET", f"/api/v1/datasets/{_part(name)}/croissant{query}")

    def site_policy(self, site: str) -> SitePolicyView:
        """The rules that a site publishes.

        Raises:
            NotFoundError: it publishes none.
        """
        return SitePolicyView.model_validate(self._http.call("GET", f"/api/v1/sites/{_part(site)}/policy"))

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def prepare(
        self,
        path: str | Path,
        *,
        changes: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> PreparedJob:
        """Everything that a submission signs, without submitting it."""
        return prepare_job(
            Path(path),
            changes=changes or {},
            sites=self.sites(),
            datasets=self.datasets(),
            cache=self._cache,
            index_url=self._index_url,
            registry=self._registry,
            progress=progress,
        )

    def submit(self, job: str | Path | PreparedJob, *, changes: Mapping[str, str] | None = None) -> JobView:
        """Sign a job and hand it to the hub. Bytes that the hub lacks are uploaded first.

        Raises:
            InvalidInputError: the job file is not right.
            InsituError: the hub did not take it.
        """
        prepared = job if isinstance(job, PreparedJob) else self.prepare(job, changes=changes)
        envelope = self.sign(prepared)
        try:
            return self.submit_signed(envelope)
        except MissingBlobsError as exc:
            self._upload(exc.missing, prepared)
        return self.submit_signed(envelope)

    @contextmanager
    def submit_and_follow(
        self, job: str | Path | PreparedJob, *, changes: Mapping[str, str] | None = None
    ) -> Iterator[tuple[JobView, Iterator[JobEvent]]]:
        """As `submit`, then `follow`, but with one request: the job's first line is here sooner.

            with client.submit_and_follow("job.yaml") as (job, events):
                for event in events:
                    print(event.text)

        The events are to be read inside of the block; to leave it early stops nothing.

        Raises:
            InvalidInputError: the job file is not right.
            InsituError: the hub did not take it.
        """
        prepared = job if isinstance(job, PreparedJob) else self.prepare(job, changes=changes)
        envelope = self.sign(prepared)
        with ExitStack() as opened:
            try:
                found = opened.enter_context(self.submit_signed_and_follow(envelope))
            except MissingBlobsError as exc:
                self._upload(exc.missing, prepared)
                found = opened.enter_context(self.submit_signed_and_follow(envelope))
            yield found

    def sign(self, prepared: PreparedJob) -> Envelope:
        """A prepared job under this person's signature. It can be submitted once, within seven days."""
        return prepared.sign(submitter=self._name(), key=self._key, now=datetime.now(UTC))

    def submit_signed(self, envelope: Envelope) -> JobView:
        """Hand a signed job to the hub. The same envelope again is the same job, so it may be repeated after a silence.

        Raises:
            MissingBlobsError: the hub lacks code or locks that the job names.
            InsituError: the hub did not take it.
        """
        return JobView.model_validate(self._post("/api/v1/jobs", JobRequest(envelope=envelope)))

    def submit_signed_and_follow(
        self, envelope: Envelope
    ) -> AbstractContextManager[tuple[JobView, Iterator[JobEvent]]]:
        """As `submit_signed`, and the job's events by the same answer.

        Raises:
            MissingBlobsError: the hub lacks code or locks that the job names.
            InsituError: the hub did not take it.
        """
        return job_events.submit(self._http, JobRequest(envelope=envelope))

    def _upload(self, missing: list[str], prepared: PreparedJob) -> None:
        for digest in missing:
            address = f"/api/v1/blobs/{_part(digest)}"
            if digest in prepared.blobs:
                self._http.call("PUT", address, content=prepared.blobs[digest])
            elif digest in prepared.files:
                with prepared.files[digest].open("rb") as stream:
                    self._http.call("PUT", address, content=stream)
            else:
                raise InvalidInputError(f"the hub asks for {digest}, which is not part of this job", code="odd-blob")

    def bring_wheels(self, bundle: str | Path, *, progress: Callable[[str], None] = lambda _: None) -> BroughtWheels:
        """Take a bundle to the hub; as an admin. Wheels that the hub has already are not sent.

        Raises:
            InvalidInputError: it is no whole bundle.
            InsituError: what the hub said, e.g. that a wheel is damaged. Those before it are there.
        """
        return bring_bundle(self._http, Path(bundle), progress)

    def jobs(self, *, state: str = "", limit: int = 100) -> list[JobView]:
        query = f"?limit={limit}" + (f"&state={state}" if state else "")
        return self._list(f"/api/v1/jobs{query}", JobView)

    def job(self, job_id: str) -> JobView:
        return JobView.model_validate(self._http.call("GET", f"/api/v1/jobs/{_part(job_id)}"))

    def cancel(self, job_id: str) -> JobView:
        """Ask for a job's end. The site confirms it; until then `cancel_requested` is true."""
        return JobView.model_validate(self._http.call("POST", f"/api/v1/jobs/{_part(job_id)}/cancel"))

    def logs(self, job_id: str, *, after: int = 0) -> list[LogLine]:
        return self._list(f"/api/v1/jobs/{_part(job_id)}/logs?after={after}", LogLine)

    def metrics(self, job_id: str) -> list[MetricPoint]:
        """Every released point of every metric, in the order of arrival."""
        return self._list(f"/api/v1/jobs/{_part(job_id)}/metrics", MetricPoint)

    def releases(self, *, verdicts: Sequence[str] = (), limit: int = 200) -> list[ReleaseView]:
        """What is held at sites, and what they let out or refused, newest first."""
        query = urlencode([*(("verdict", verdict) for verdict in verdicts), ("limit", limit)])
        return self._list(f"/api/v1/releases?{query}", ReleaseView)

    def meter(self, job_id: str) -> MeterView:
        """What of this job has left its site so far, channel by channel."""
        return MeterView.model_validate(self._http.call("GET", f"/api/v1/jobs/{_part(job_id)}/meter"))

    def egress(self, job_id: str) -> list[EgressItem]:
        """What of this job reached the hub. The site's ledger is the record."""
        return self._list(f"/api/v1/jobs/{_part(job_id)}/egress", EgressItem)

    def wait(self, job_id: str, *, timeout_s: float | None = None, held_is_enough: bool = True) -> JobView:
        """Wait until a job is final, or held for a steward.

        Raises:
            UnavailableError: it took longer than `timeout_s`.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if is_final(job.state) or (held_is_enough and job.state == "held"):
                return job
            if end is not None and time.monotonic() > end:
                raise UnavailableError(f"job {job_id} is still {job.state}", code="timeout", hint="wait longer")
            time.sleep(_POLL_S)

    def follow(self, job_id: str, *, after: str = "") -> Iterator[JobEvent]:
        """A job's log lines, metrics, states and decisions as they arrive, until it is final or held.

        A connection that breaks is taken up again where it broke, so nothing is missed
        and nothing comes twice.

        Raises:
            UnreachableError: the hub stayed away for a minute.
        """
        return job_events.follow(self._http, job_id, after=after)

    # -- models --------------------------------------------------------------------------------------------------------

    def models(self) -> list[ModelVersionView]:
        return self._list("/api/v1/models", ModelVersionView)

    def model_versions(self, name: str) -> list[ModelVersionView]:
        return self._list(f"/api/v1/models/{_part(name)}", ModelVersionView)

    def model(self, reference: str) -> ModelVersionView:
        """`name`, `name:3` or `name@champion`.

        Raises:
            NotFoundError: there is no such version or alias.
        """
        name, alias, version = _split_reference(reference)
        versions = self.model_versions(name)
        for found in sorted(versions, key=lambda one: -one.version):
            if (alias and alias in found.aliases) or (version and found.version == version) or not (alias or version):
                return found
        raise NotFoundError(
            f"there is no model {reference!r}",
            code="no-model",
            hint=f"versions: {', '.join(str(one.version) for one in versions) or 'none'}; see `insitu model list`",
        )

    def model_statement(self, name: str, version: int) -> Envelope:
        """What the site signed when it let this version out: an in-toto statement, unverified."""
        path = f"/api/v1/models/{_part(name)}/versions/{version}/statement"
        return Envelope.model_validate(self._http.call("GET", path))

    def tag_model(self, name: str, version: int, key: str, value: str) -> ModelVersionView:
        return ModelVersionView.model_validate(
            self._http.call(
                "PUT",
                f"/api/v1/models/{_part(name)}/versions/{version}/tags",
                json=TagRequest(key=key, value=value).model_dump(),
            )
        )

    def alias_model(self, name: str, alias: str, version: int) -> ModelVersionView:
        request = AliasRequest(alias=alias, version=version)
        return ModelVersionView.model_validate(
            self._http.call("PUT", f"/api/v1/models/{_part(name)}/aliases", json=request.model_dump())
        )

    # -- images --------------------------------------------------------------------------------------------------------

    def build_image(self, model: str, version: int, *, push: bool = True) -> ImageView:
        return ImageView.model_validate(
            self._post("/api/v1/images", ImageRequest(model=model, version=version, push=push))
        )

    def images(self) -> list[ImageView]:
        return self._list("/api/v1/images", ImageView)

    def image(self, reference: str) -> ImageView:
        return ImageView.model_validate(self._http.call("GET", f"/api/v1/images/{_part(reference)}"))

    def wait_image(self, image_id: str, *, timeout_s: float = 600.0) -> ImageView:
        end = time.monotonic() + timeout_s
        while True:
            image = self.image(image_id)
            if image.state != "building":
                return image
            if time.monotonic() > end:
                raise UnavailableError(f"image {image_id} is still being built", code="timeout")
            time.sleep(0.1)

    # -- deployments ---------------------------------------------------------------------------------------------------

    def deploy(
        self, name: str, *, model: ModelVersionView, image: ImageView | None, site: str, port: int | None = None
    ) -> DeploymentView:
        """Sign a deployment at a site and hand it to the hub.

        Args:
            image: of the model; None for a resident one, whose site builds its image itself.
        """
        before = next((one for one in self.deployments() if one.name == name), None)
        envelope = sign_deployment(
            name=name,
            site=site,
            revision=(before.revision if before else 0) + 1,
            model=DeployedModel(name=model.name, version=model.version, digest=model.digest),
            image=Digest(image.digest) if image else None,
            base=image.base if image else model.tags.get("insitu.base", ""),
            lock=image.lock if image else model.tags.get("insitu.lock", ""),
            port=port,
            resources=ServingResources(),
            submitter=self._name(),
            key=self._key,
            now=datetime.now(UTC),
        )
        return DeploymentView.model_validate(self._post("/api/v1/deployments", DeploymentRequest(envelope=envelope)))

    def deployments(self, *, deleted: bool = True) -> list[DeploymentView]:
        """All of them, also those that should be no more: their revisions are never given again."""
        return self._list(f"/api/v1/deployments?deleted={str(deleted).lower()}", DeploymentView)

    def deployment(self, name: str) -> DeploymentView:
        return DeploymentView.model_validate(self._http.call("GET", f"/api/v1/deployments/{_part(name)}"))

    def delete_deployment(self, name: str) -> DeploymentView:
        return DeploymentView.model_validate(self._http.call("DELETE", f"/api/v1/deployments/{_part(name)}"))

    def wait_deployment(
        self,
        name: str,
        *,
        timeout_s: float = 120.0,
        until: tuple[str, ...] = ("healthy", "failed"),
        progress: Callable[[DeploymentView], None] = lambda _: None,
    ) -> DeploymentView:
        """Wait until a deployment is in one of the states `until`.

        Raises:
            UnavailableError: it took longer than `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while True:
            found = self.deployment(name)
            progress(found)
            if found.state in until:
                return found
            if time.monotonic() > end:
                raise UnavailableError(
                    f"deployment {name} is still {found.state}",
                    code="timeout",
                    why=found.reason.what,
                    hint=f"it goes on; see `insitu deployment show {name}`",
                )
            time.sleep(_POLL_DEPLOYMENT_S)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        if self._me is None:
            self._me = self.whoami()
            if self._me.key != self._key.fingerprint:
                self._me = self.register_key()
        return self._me.name

    def _post(self, path: str, request: BaseModel) -> Any:
        body = request.model_dump_json().encode()
        return self._http.call("POST", path, content=body, headers={"Content-Type": "application/json"})

    def _list(self, path: str, view: type[View]) -> list[View]:
        reply = self._http.call("GET", path)
        items = reply["items"] if isinstance(reply, dict) and "items" in reply else reply
        return [view.model_validate(item) for item in items]


def _part(name: str) -> str:
    """A name as one part of a path: it can't lead to another address of the hub."""
    return quote(name, safe=":@")


def _split_reference(reference: str) -> tuple[str, str, int]:
    """(name, alias, version): at most one of the last two is set."""
    name, mark, alias = reference.partition("@")
    if mark:
        return name, alias, 0
    name, mark, version = reference.partition(":")
    if mark and not version.isdecimal():
        raise InvalidInputError(
            f"{version!r} is not a version", code="model-reference", hint="name, name:3 or name@alias"
        )
    return name, "", int(version or 0)
