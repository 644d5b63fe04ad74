"""Models that stay at their site: the hub has their card, and nothing that could be moved.

Every way by which a model's files could be asked for, or its service be put somewhere
else, asks here first, so that each refusal names the same rule.
"""

from __future__ import annotations

from insitu.domain.errors import DeniedError, InvalidInputError
from insitu.hub.store.outputs import AdmittedRelease
from insitu.wire.deployments import DeploymentDocument

RULE = "resident"


def check_left(release: AdmittedRelease) -> None:
    """Raise unless the files of a release left their site.

    Raises:
        DeniedError: it is a resident model.
    """
    if release.is_resident:
        raise refusal(f"{release.output!r} of {release.job_id}", site=release.site, measure="its files were asked for")


def check_may_serve(release: AdmittedRelease, document: DeploymentDocument) -> None:
    """Raise unless this deployment of a resident model is at its own site, and of what the image is built of there.

    Raises:
        DeniedError: it is at another site, or names an image: the only one is built at the site.
        InvalidInputError: it names another model, base or lock.
    """
    model = f"{document.model.name}:{document.model.version}"
    if document.site != release.site:
        raise refusal(model, site=release.site, measure=f"a deployment at {document.site}")
    if document.image is not None:
        raise refusal(model, site=release.site, measure="an image that its site did not build")
    made_of = (document.model.digest, document.base, document.lock)
    if made_of != (release.digest, release.base, release.lock):
        raise InvalidInputError(
            f"the deployment is not of {model} as its site keeps it",
            code="image-mismatch",
            why="its site builds the image from model, base and lock, and the card names them",
            hint="deploy with `insitu deploy`, which takes them from the model's card",
        )


def refusal(what: str, *, site: str, measure: str) -> DeniedError:
    return DeniedError(
        f"{what} is resident at {site}: it may be used there, and its files never left",
        code="resident",
        rule=RULE,
        measure=measure,
        limit=f"served at {site} only",
        hint=f"serve it there: `insitu deploy MODEL --site {site}`",
    )
