"""Where the demo's things lie: one folder that goes away, and caches that stay."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.errors import ConflictError, InvalidInputError, UnavailableError
from insitu.images.base import build_base
from insitu.images.layout import OciLayout

_SOCKET_PATH_BYTES = 100  # a unix socket's path may have 107
_LONGEST_BELOW = "site/jobs/j-0123456789ab/1/intake/control.sock"


@dataclass(frozen=True)
class Places:
    """`root` is removed in the end; `cache` is what makes the second demo fast."""

    root: Path
    cache: Path

    @property
    def hub(self) -> Path:
        return self.root / "hub"

    @property
    def site(self) -> Path:
        return self.root / "site"

    @property
    def private(self) -> Path:
        return self.root / "private"  # the site's own data: nothing but its agent is told of it

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def people(self) -> Path:
        return self.root / "people"

    @property
    def base_layout(self) -> Path:
        return self.cache / "base"

    @property
    def bases(self) -> Path:
        return self.cache / "bases"

    @property
    def packages(self) -> Path:
        return self.cache / "demo"  # the agent's cache; its folders `uv` and `wheels` serve the hub too


def make_places(given: Path | None, cache: Path) -> Places:
    """A folder for one demo.

    Raises:
        ConflictError: the folder that was given holds something already.
        InvalidInputError: its path is too long for the sockets that come to lie in it.
    """
    if given is None:
        root = Path(tempfile.mkdtemp(prefix="insitu-demo-"))
    else:
        root = given.absolute()
        if root.exists() and any(root.iterdir()):
            raise ConflictError(f"{root} is not empty", code="demo-dir", hint="name a new folder: the demo removes it")
        if len(str(root / _LONGEST_BELOW)) > _SOCKET_PATH_BYTES:
            raise InvalidInputError(
                f"the path {root} is too long",
                code="demo-dir",
                why="sockets come to lie in it",
                limit=f"{_SOCKET_PATH_BYTES} bytes with what is below it",
                hint="name a shorter one, e.g. /tmp/demo",
            )
        root.mkdir(parents=True, exist_ok=True)
    # The gate's processes have a user of their own, and walk through it to what they judge.
    root.chmod(0o711)
    places = Places(root, cache)
    for folder in (places.private, places.logs, places.people):
        folder.mkdir(mode=0o700)
    return places


def remove(places: Places) -> None:
    """Remove the folder; the caches stay."""
    shutil.rmtree(places.root, ignore_errors=True)


def ready_base(places: Places, progress: Callable[[str], None]) -> None:
    """A base in the layout, built now (half a minute) on a machine that has none."""
    places.cache.mkdir(parents=True, exist_ok=True)
    build_base(OciLayout(places.base_layout), work_dir=places.cache, progress=progress)


def share_bases(places: Places) -> None:
    """Let hub and site use the unpacked base that every demo on this machine uses: it is only ever read."""
    places.bases.mkdir(parents=True, exist_ok=True)
    for folder, name in ((places.site, "bases"), (places.hub, "unpacked")):
        folder.mkdir(mode=0o700)
        (folder / name).symlink_to(places.bases)


def example() -> Path:
    """The folder of examples/wdbc: beside the package in a checkout, inside it in a wheel.

    Raises:
        UnavailableError: it is in neither.
    """
    package = Path(__file__).parent
    for folder in (package / "wdbc", package.parents[3] / "examples" / "wdbc"):
        if (folder / "job.yaml").is_file():
            return folder
    raise UnavailableError(
        "the example that the demo runs is not here", code="no-example", hint="run it from a checkout: `make demo`"
    )
