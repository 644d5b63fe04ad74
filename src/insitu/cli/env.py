"""`insitu env …`: packages for places without internet, as one file that any stick can carry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, heading, short
from insitu.cli.session import SiteDir, hub, site_folder, user_folders
from insitu.domain.digests import digest_of_file
from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.domain.quantities import format_bytes

app = group("Packages for places without internet.")


@command(app, "export")
def export(
    source: Annotated[Path, typer.Argument(help="A job file, or a pylock.toml.", metavar="JOB.yaml|LOCK")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The bundle to write, e.g. bundle.tar.")],
    places: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="A Python and a platform, e.g. 3.11/x86_64-linux. Without it: of a job, those of the sites that could "
            "run it, as the hub says; of a lock, all that it has wheels for.",
            metavar="PYTHON/PLATFORM",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Pack a lock and its wheels into one file, for `insitu env import` at a hub or a site. Needs a package index."""
    from insitu.sdk.bundles import digests, locks_of_file, locks_of_job, pack_bundle
    from insitu.sdk.environment_files import Locker
    from insitu.sdk.places import place_of
    from insitu.wire.job_file import load_job_file

    terminal = current()
    index_url, cache = os.environ.get("INSITU_INDEX_URL") or None, user_folders().cache
    with terminal.progress(f"reading {source}") as say:
        wanted = [place_of(text) for text in places or ()]
        if source.suffix in (".yaml", ".yml"):
            job = load_job_file(_read(source))
            folder = (source.parent / job.code).resolve()
            locks = locks_of_job(job, folder, wanted or _places_at_hub(job), Locker(cache, index_url, say))
        else:
            locks = locks_of_file(source, wanted)
        packed = pack_bundle(locks, out, cache=cache, index_url=index_url, progress=say)
    found = {
        "file": str(out),
        "size_bytes": packed.size_bytes,
        "digest": digest_of_file(out),
        "locks": [{"digest": lock.digest, "python": lock.python, "platform": lock.platform} for lock in packed.locks],
        "wheels": sorted(wheel.filename for wheel in packed.wheels),
    }
    terminal.show(
        found,
        heading(str(out)),
        fields(
            {
                "wheels": f"{len(packed.wheels)}, {format_bytes(packed.size_bytes)}",
                "locks": ", ".join(short(digest) for digest in digests(packed.locks)),
                "digest": found["digest"],
            }
        ),
        name=str(out),
    )


@command(app, "import")
def import_(
    bundle: Annotated[Path, typer.Argument(help="What `insitu env export` wrote.", metavar="BUNDLE")],
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="INSITU_HUB_DATA", help="The data folder of a hub on this machine."),
    ] = None,
    folder: SiteDir = None,
) -> None:
    """Take a bundle's wheels in, each checked against its hash: at the hub (as an admin), in a hub's folder, at a site.

    Without --data and --dir it is sent to the hub that you are logged in to.
    """
    if data is not None and folder is not None:
        raise InvalidInputError(
            "it is not said whether the hub or the site takes the bundle",
            code="usage",
            hint="--data or --dir, not both",
        )
    if not bundle.is_file():
        raise NotFoundError(f"there is no file {bundle}", code="no-bundle", hint="see `insitu env export --help`")
    terminal = current()
    with terminal.progress(f"reading {bundle}") as say:
        if data is not None:
            found = _into_hub_folder(bundle, data, say)
        elif folder is not None:
            found = _into_site(bundle, site_folder(folder), say)
        else:
            with hub() as client:
                brought = client.bring_wheels(bundle, progress=say)
            found = {"at": client.hub, "new": list(brought.new), "known": list(brought.known), "locks": []}
    terminal.show(
        found,
        Text(f"{len(found['new'])} new packages at {found['at']}; {len(found['known'])} were there already"),
        name=str(found["at"]),
    )


def _into_hub_folder(bundle: Path, data: Path, say: Any) -> dict[str, Any]:
    from insitu.hub.settings import HubSettings
    from insitu.images.bundles import take_bundle
    from insitu.images.wheel_store import WheelStore

    if not (data / "hub-key").exists():
        raise NotFoundError(
            f"{data} is not a hub's folder", code="no-hub-folder", hint="name the one that `insitu hub start` was given"
        )
    taken = take_bundle(bundle, WheelStore(HubSettings(data=data.absolute()).wheels), progress=say)
    return _told(taken, data)


def _into_site(bundle: Path, root: Path, say: Any) -> dict[str, Any]:
    """Beside the agent, which may run: names in its cache appear whole or not at all."""
    from insitu.agent.environments import lock_in, wheels_in
    from insitu.agent.folder import SiteFolder, write_atomic
    from insitu.agent.settings import load_settings
    from insitu.images.bundles import take_bundle

    folder = SiteFolder(root)
    settings = load_settings(folder)
    cache = Path(settings.cache) if settings.cache else folder.cache

    def keep_lock(digest: Any, raw: bytes) -> None:
        place = lock_in(cache, digest)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(place, raw)

    taken = take_bundle(bundle, wheels_in(cache), keep_lock=keep_lock, progress=say)
    return _told(taken, root)


def _told(taken: Any, place: Path) -> dict[str, Any]:
    return {
        "at": str(place),
        "new": [wheel.filename for wheel in taken.new],
        "known": [wheel.filename for wheel in taken.known],
        "locks": list(taken.locks),
    }


def _places_at_hub(job: Any) -> list[Any]:
    from insitu.sdk.submit import places_for

    with hub() as client:
        return places_for(job, client.sites(), client.datasets())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as exc:
        raise InvalidInputError(f"{path} can't be read", code="job-file", why=exc.strerror or "") from exc
