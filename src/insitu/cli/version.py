"""`insitu version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

from insitu.cli.commands import single
from insitu.cli.output import current, fields


def version() -> None:
    """Which version this is, and on what it runs."""
    found = {
        "insitu": version_of("insitu"),
        "python": platform.python_version(),
        "platform": f"{platform.machine()}-{platform.system().lower()}",
    }
    current().show(found, fields(found), name=found["insitu"])


app = single(version)
