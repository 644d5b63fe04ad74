"""The files of the serving process, put where an image or a sandbox takes them from.

They are this installation's own, in a folder that is named by their content, so two
versions lie side by side and a started service never sees its code change. A folder
is complete or absent: it is made beside its place and moved there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import insitu

_PACKAGE = Path(insitu.__file__).parent


def serving_files() -> dict[str, Path]:
    """Path below the folder → file of this installation."""
    files = sorted((_PACKAGE / "serving").glob("*.py"))
    return {"insitu/serving/" + file.name: file for file in files}


def put_serving_code(folder: Path) -> Path:
    """A folder below `folder` that holds the serving code and nothing else, for PYTHONPATH."""
    # The package's own __init__ would offer the SDK, which is not there: an empty one takes its place.
    contents = {"insitu/__init__.py": b""} | {name: file.read_bytes() for name, file in serving_files().items()}
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(b"%d %b %d " % (len(name), name.encode(), len(content)) + content)
    place = folder / digest.hexdigest()[:32]
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        for name, content in contents.items():
            file = making / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        making.chmod(0o755)
        os.rename(making, place)  # noqa: PTH104 - fails when somebody was faster, and theirs is the same
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not place.is_dir():
            raise
    return place
