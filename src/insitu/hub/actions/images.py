"""Images of released models: asked for here, built by a loop."""

from __future__ import annotations

from datetime import datetime

from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.hub.access import Actor, Permission, check_can
from insitu.hub.actions import residency
from insitu.hub.store import images, jobs, outputs
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.wire.people import ImageRequest, ImageView


def build_image(actor: Actor, session: WriteSession, request: ImageRequest, *, now: datetime) -> ImageView:
    """Have an image of a model version built. One that is ready or under way is not built again."""
    check_can(actor, Permission.BUILD)
    release = outputs.of_model(session, request.model, request.version)
    if release is None:
        raise NotFoundError(
            f"there is no version {request.version} of model {request.model[:80]!r}",
            code="no-such-version",
            hint="see `insitu model list`",
        )
    residency.check_left(release)
    check_can_be_served(session, release)
    session.one_at_a_time("image")
    found = images.current(session, request.model, request.version)
    if found is None:
        return images.add(session, request.model, request.version, release, push=request.push, now=now)
    if found.state == "ready" and request.push and not found.pushed:
        images.push_again(session, found.id)
    return _existing(session, found.id)


def check_can_be_served(session: ReadSession, release: outputs.AdmittedRelease) -> None:
    """Raise where what a model was trained in could not serve it.

    Raises:
        InvalidInputError: its job ran in an image of its own.
    """
    image = jobs.image_of(session, release.job_id)
    if image:
        raise InvalidInputError(
            f"{release.output!r} of {release.job_id} was trained in an image, and no image that serves it can be built",
            code="image-serving",
            why="what serves is made of a base that policies list and of packages by their hashes; of what is in "
            "somebody's image nothing is known",
            rule="what-was-trained-serves",
            measure=image,
            limit="environments with a lock",
            hint="train it once more with the packages named, e.g. `environment: {requirements: requirements.txt}`",
        )


def list_images(actor: Actor, session: ReadSession, *, limit: int) -> list[ImageView]:
    check_can(actor, Permission.LOOK)
    return images.views(session, limit=limit)


def show_image(actor: Actor, session: ReadSession, name: str) -> ImageView:
    check_can(actor, Permission.LOOK)
    return _existing(session, name)


def _existing(session: ReadSession, name: str) -> ImageView:
    view = images.view(session, name)
    if view is None:
        raise NotFoundError(f"there is no image {name[:120]!r}", code="no-such-image", hint="see `insitu image list`")
    return view
