"""Builds the images that were asked for, one after the other, and pushes them where a registry is configured.

The base comes from the layout of bases, the environment from the lock that was
signed, the model from the files that the site released: each named by digest. A
registry that is away costs the push, not the image.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from insitu.domain.digests import Digest
from insitu.domain.errors import InsituError, InvalidInputError, NotFoundError, UnavailableError
from insitu.domain.images import Image
from insitu.hub.loops.base import Loop
from insitu.hub.parts import Parts
from insitu.hub.settings import HubSettings
from insitu.hub.store import images, outputs
from insitu.images.base import config_of, describe_base, import_base, unpack_base
from insitu.images.build import build_image
from insitu.images.environment import Environment, materialise, parse_lock
from insitu.images.push import push_image
from insitu.images.recipe import Recipe
from insitu.images.registry import RegistrySettings
from insitu.images.wheel_choice import chosen_wheels
from insitu.wire.people import Reason

_log = logging.getLogger("insitu.hub")


def step(parts: Parts) -> None:
    with parts.store.read() as session:
        waiting = images.to_build(session)
    for wanted in waiting:
        if parts.bell.closed:
            return
        try:
            built = _build(parts, wanted)
        except InsituError as exc:
            _fail(parts, wanted, _reason(exc))
        except Exception:  # noqa: BLE001 - see below
            # Left as it is, it would be tried for ever, and whoever waits would never hear.
            _log.exception("image %s of %s:%s failed", wanted.id, wanted.model, wanted.version)
            _fail(parts, wanted, Reason(code="internal", what="the image could not be built", hint="see the hub's log"))
        else:
            with parts.store.write() as session:
                images.note_ready(session, wanted.id, built)


def _fail(parts: Parts, wanted: images.ImageToBuild, reason: Reason) -> None:
    with parts.store.write() as session:
        images.note_failed(session, wanted.id, reason)


def _build(parts: Parts, wanted: images.ImageToBuild) -> images.BuiltImage:
    with parts.store.read() as session:
        release = outputs.of_model(session, wanted.model, wanted.version)
    if release is None:
        raise NotFoundError(f"there is no version {wanted.version} of {wanted.model}", code="no-such-version")
    base = Digest(wanted.base)
    _take_base(parts, base)
    environment = _environment(parts, base, Digest(wanted.lock))
    recipe = Recipe(
        base=base,
        lock=Digest(wanted.lock),
        environment_key=environment.key,
        model_name=wanted.model,
        model_version=str(wanted.version),
        model_digest=Digest(wanted.model_digest),
        platform=environment.platform,
        job_id=release.job_id,
    )
    with parts.blobs.folder_of(release.files) as model:
        image = build_image(recipe, parts.images, environment=environment, model=model)
    reference, reason = _push(parts, image) if wanted.push else ("", Reason())
    manifest = parts.images.manifest(image.digest)
    return images.BuiltImage(
        digest=image.digest,
        reference=reference or image.reference,
        size_bytes=image.size_bytes,
        blobs=[image.digest, config_of(manifest).digest, *(layer.digest for layer in image.layers)],
        pushed=bool(reference),
        reason=reason,
    )


def _take_base(parts: Parts, digest: Digest) -> None:
    """Have the base in the hub's own layout, from the layout of bases.

    Raises:
        NotFoundError: it is in neither.
    """
    with suppress(NotFoundError):
        describe_base(parts.images, digest)
        return
    try:
        import_base(parts.images, f"oci:{parts.settings.bases}@{digest}")
    except (NotFoundError, UnavailableError, InvalidInputError) as exc:
        raise NotFoundError(
            "the image's base is not at the hub",
            code="no-base",
            why=f"the model was trained on {digest}, which is not in {parts.settings.bases.name}/",
            hint="start the hub with `--base-layout` naming an OCI layout that has it; `make base-image` builds one",
        ) from exc


def _environment(parts: Parts, base: Digest, lock: Digest) -> Environment:
    data = parts.settings.data
    unpacked = unpack_base(parts.images, base, data / "unpacked")
    raw = parts.blobs.path(lock).read_bytes()
    # The wheels that the sites were given: what was trained is what serves.
    chosen = [wheel for _, wheel in chosen_wheels(parse_lock(raw), python=unpacked.python, platform=unpacked.platform)]
    parts.wheels.have(chosen)
    return materialise(
        raw,
        data / "environments",
        python_version=unpacked.python,
        platform=unpacked.platform,
        cache_dir=parts.settings.packages,
        base_rootfs=unpacked.rootfs,
        base_digest=base,
        offline=True,
        index=parts.wheels.store.index(chosen),
    )


def _push(parts: Parts, image: Image) -> tuple[str, Reason]:
    """Where the image was pushed, or why it wasn't. An image that could not be pushed is an image all the same."""
    settings = parts.settings
    if not settings.registry:
        return "", Reason(code="no-registry", what="the hub has no registry to push to")
    place = settings.registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    try:
        pushed = push_image(parts.images, image.reference, f"{place}/{image.reference}", settings=_login(settings))
    except InsituError as exc:
        _log.warning("image %s was not pushed: %s", image.reference, exc.what)
        return "", _reason(exc)
    return pushed.reference, Reason()


def _login(settings: HubSettings) -> RegistrySettings:
    plain = True if settings.registry.startswith("http://") else None
    if settings.registry_auth is None:
        return RegistrySettings(plain_http=plain)
    try:
        user, _, password = settings.registry_auth.read_text().strip().partition(":")
    except OSError as exc:
        raise UnavailableError(
            "the registry's login can't be read", code="registry-auth", why=exc.strerror or ""
        ) from exc
    return RegistrySettings(username=user, password=password, plain_http=plain)


def _reason(exc: InsituError) -> Reason:
    return Reason(
        code=exc.code, what=exc.what, rule=exc.rule, measure=exc.measure, limit=exc.limit, hint=exc.hint or exc.why
    )


LOOP = Loop("build-images", images.TOPIC, 10.0, step)
