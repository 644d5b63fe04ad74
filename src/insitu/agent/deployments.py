"""What should be served here, checked and made so; what is served, reported.

An order of the hub counts only when a key that the policy lists under
`deployments.signers` has signed it, and when the policy lets it run: its base is
listed, its model is one that this site released, and there is room. What was
accepted is kept in the store, so it is served again after a restart while the hub
is away. A later, stricter policy ends what it no longer lets run.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import overload

from insitu.agent.accept import check_may_deploy
from insitu.agent.frozen import check_frozen, list_files
from insitu.agent.review_queue import ItemRow
from insitu.agent.site import Site
from insitu.agent.site_images import SiteImages
from insitu.agent.statements import check_statement
from insitu.deploy.drivers.contract import Places
from insitu.deploy.drivers.sandbox import SandboxDriver
from insitu.deploy.one_deployment import AddressSettings
from insitu.deploy.serving_code import put_serving_code
from insitu.deploy.site_deployments import SiteDeployments
from insitu.domain.deployments import DeploymentState, Desired, Observed, Resources
from insitu.domain.digests import Digest
from insitu.domain.errors import DeniedError, InsituError
from insitu.domain.reviews import ItemState
from insitu.wire.deployments import VerifiedDeployment, open_deployment
from insitu.wire.envelopes import Envelope
from insitu.wire.jobs import check_fresh
from insitu.wire.releases import files_digest
from insitu.wire.sync import DeploymentOrder, DeploymentReport

_log = logging.getLogger("insitu.agent")

_LOOK_S = 0.2  # while something is on its way
_CALM_S = 2.0  # when all is as it should be
_UID_OFFSET = 5000  # above the jobs' uids
_SETTLED = frozenset({DeploymentState.HEALTHY, DeploymentState.FAILED, DeploymentState.GONE})


class _PolicyPorts(Sequence[int]):
    """The ports that the policy grants, as it is when somebody looks."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def _range(self) -> range:
        policy = self._site.policy.current()
        ports = policy.deployments.ports if policy else None
        return range(ports.first, ports.last + 1) if ports else range(0)

    def __len__(self) -> int:
        return len(self._range())

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> range: ...
    def __getitem__(self, index: int | slice) -> int | range:
        return self._range()[index]


class Deployments:
    """The deployments of a site and the thread that tends them."""

    def __init__(self, site: Site, *, changed: Callable[[], None]) -> None:
        self._site, self._changed = site, changed
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._refused: dict[str, DeploymentReport] = {}
        self._observed: dict[str, Observed] = {}
        self._images = SiteImages(site.folder.deployments, site.base, Path(site.settings.base_layout))
        prefix = f"insitu-{site.settings.site}-"
        uid = site.settings.first_uid + _UID_OFFSET
        driver = SandboxDriver(
            site.keepers,
            site.sandbox,
            site.sandbox_settings,
            site.folder.deployments / "services",
            prefix=prefix,
            uid=uid,
            gid=uid,
        )
        self._parts = SiteDeployments(
            site.folder.deployments / "state",
            driver,
            self._prepare,
            prefix=prefix,
            addresses=AddressSettings(host=site.settings.serve_host, ports=_PolicyPorts(site)),
        )
        self._thread = threading.Thread(target=self._tend, name="deployments", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop tending. What is served goes on; the next start finds it."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=10)
        self._parts.close()

    # -- what should be ------------------------------------------------------------------------------------------------

    def apply(self, orders: Iterable[DeploymentOrder]) -> None:
        """Take the hub's orders: all of them, each time. What is not named should not be."""
        store = self._site.store
        known = store.deployments()
        named = set()
        for order in orders:
            named.add(order.name)
            envelope = order.envelope.model_dump(mode="json")
            if known.get(order.name, (0, None))[1] == envelope:
                continue
            try:
                verified = self._check(order.envelope, fresh=True)
                if verified.document.name != order.name:
                    raise DeniedError("the order's name is not the one that was signed", code="deployment-name")
                store.put_deployment(order.name, verified.document.revision, envelope)
                self._refused.pop(order.name, None)
            except InsituError as exc:
                self._refuse(order.name, exc)
            self._wake.set()
        for name in set(known) - named:
            store.drop_deployment(name)
            self._wake.set()
        for name in set(self._refused) - named:
            self._refused.pop(name, None)

    def _check(self, envelope: Envelope, *, fresh: bool) -> VerifiedDeployment:
        site = self._site
        policy = site.policy.require()
        signers = {name: policy.signers[name] for name in policy.deployments.signers}
        verified = open_deployment(envelope, signers=signers)
        if fresh:
            check_fresh(verified.document.signed_at, verified.document.expires_at, now=site.now())
        check_may_deploy(
            verified,
            policy,
            site=site.settings.site,
            running={name: revision for name, (revision, _) in site.store.deployments().items()},
            entry_of_release=site.ledger.entry_of_release,
            entry_of_resident=site.ledger.entry_of_resident,
        )
        return verified

    def _refuse(self, name: str, error: InsituError) -> None:
        if name in self._site.store.deployments():
            return  # a former revision runs on; the hub sees that it is not the new one
        limits = f" ({error.rule}: {error.measure}; limit {error.limit})" if error.rule else ""
        self._refused[name] = DeploymentReport(
            name=name,
            revision=0,
            state="failed",
            code=error.code[:60],
            what=(error.what + limits)[:500],
            hint=error.hint[:500],
        )
        self._changed()

    def _desired(self) -> list[Desired]:
        desired = []
        for name, (_, raw) in self._site.store.deployments().items():
            try:
                document = self._check(Envelope.model_validate(raw), fresh=False).document
            except InsituError as exc:
                _log.warning("deployment %s is ended: %s", name, exc.what)
                continue
            policy = self._site.policy.require()
            desired.append(
                Desired(
                    name=name,
                    revision=document.revision,
                    model_name=document.model.name,
                    model_version=str(document.model.version),
                    image=Digest(document.image) if document.image else None,
                    base=Digest(document.base),
                    lock=Digest(document.lock),
                    model=Digest(document.model.digest),
                    port=document.port,
                    resources=Resources(document.resources.cpus, document.resources.memory_bytes),
                    trusted_types=tuple(policy.release.models.trusted_types),
                )
            )
        return desired

    # -- made so -------------------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                observed = {one.name: one for one in self._parts.reconcile(self._desired())}
            except Exception:  # noqa: BLE001 - said in the log; the process goes on
                _log.exception("tending deployments failed")
                self._wake.wait(_CALM_S)
                continue
            with self._lock:
                before, self._observed = self._observed, observed
            if before != observed:
                self._changed()
            calm = all(one.state in _SETTLED for one in observed.values())
            self._wake.wait(_CALM_S if calm else _LOOK_S)

    def reports(self) -> list[DeploymentReport]:
        with self._lock:
            observed = list(self._observed.values())
        reports = [self._report(one) for one in observed if one.name not in self._refused]
        return [*reports, *self._refused.values()]

    def _report(self, one: Observed) -> DeploymentReport:
        problem = one.problem
        return DeploymentReport(
            name=one.name,
            revision=one.revision,
            state=one.state.value,
            url=one.url,
            image=self._images.digest_of(one.name, one.revision),
            code=problem.code[:60] if problem else "",
            what=problem.what[:500] if problem else "",
            hint=problem.hint[:500] if problem else "",
        )

    def _prepare(self, desired: Desired) -> Places:
        """Base, packages, serving code and model, each by its digest, where a sandbox can take them.

        Of a resident model there is no image anywhere yet: it is built here, and served from.
        """
        site = self._site
        if desired.base != site.base.digest:
            raise DeniedError(
                "the deployment is for another base than this site's",
                code="deployment-base",
                rule="bases",
                measure=desired.base,
                limit=site.base.digest,
                hint="build the image again from a model that was trained on this base",
            )
        environment = site.environments.made(desired.lock, site.link.fetch_blob)
        if desired.image is not None:
            code = put_serving_code(site.folder.deployments / "code")
            return Places(site.base.rootfs, environment.tree, serving=code, model=self._model(desired.model))
        item = self._frozen(desired.model)
        check_frozen(Path(item.details["folder"]), desired.model)
        image = self._images.build(
            desired, environment=environment, model=Path(item.details["folder"]), job_id=item.job_id
        )
        _check_files(image.model, desired.model)
        return Places(site.base.rootfs, environment.tree, serving=image.serving, model=image.model)

    def _items(self, digest: Digest) -> list[ItemRow]:
        return [item for item in self._site.store.queue.items() if item.digest == digest]

    def _frozen(self, digest: Digest) -> ItemRow:
        """An item whose frozen copy is here.

        Raises:
            DeniedError: there is none.
        """
        for item in self._items(digest):
            folder = item.details["folder"]
            if folder and Path(folder).is_dir():
                return item
        raise DeniedError("the model is not at this site", code="model-not-here", rule="model", measure=digest)

    def _model(self, digest: Digest) -> Path:
        """A released model's files, copied from where they were frozen."""
        place = self._site.folder.deployments / "models" / digest.removeprefix("sha256:")
        released = [item for item in self._items(digest) if item.state is ItemState.RELEASED]
        if released:
            check_statement(self._site, released[-1])
        if not place.exists():
            source = self._frozen(digest).details["folder"]
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            work = place.with_suffix(".making")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(source, work)
            for path in [work, *work.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)
            work.rename(place)
        _check_files(place, digest)
        return place


def _check_files(folder: Path, digest: Digest) -> None:
    if files_digest(list_files(folder)) != digest:
        raise DeniedError("the model's files are not what was released", code="model-digest", rule="model")
