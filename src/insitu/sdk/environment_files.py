"""What a job file's `environment` names, as a lock for one kind of place. The client does it: who resolves picks what runs.

    requirements   requirements.txt              resolved by uv
    script         a script's PEP 723 block      its `dependencies`, resolved by uv
    conda          a conda.yaml                  its packages by their names on PyPI, resolved by uv
    pyproject      pyproject.toml and uv.lock    what uv.lock has, narrowed to the place
    pylock         pylock.toml (PEP 751)         as it is; each of its packages must have a wheel for the place

Nothing is built, for any of them: a source distribution is code without a digest.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from insitu.domain.errors import InvalidInputError
from insitu.images.locks import IndexSettings, export_uv_lock, lock_requirements, parse_lock
from insitu.images.wheel_choice import chosen_wheels, narrowed
from insitu.sdk.conda_files import requirements_of_conda
from insitu.sdk.lock_failures import explain_lock_failure
from insitu.sdk.places import Place
from insitu.wire.job_file import Environment

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Locker:
    """Makes locks for one person, who may have an index of their own; those that are made are kept."""

    cache: Path
    index_url: str | None = None
    progress: Progress = lambda _: None

    def lock(self, environment: Environment, folder: Path, place: Place) -> bytes:
        """The lock of a job's environment for one kind of place.

        Args:
            folder: the job's code, which the environment's file is in.

        Raises:
            InvalidInputError: the file can't be read, or a requirement can't be met there with wheels; it names the
                requirement, the place, and versions that would fit.
            UnreachableError: the index doesn't answer.
        """
        path = folder / environment.path
        text = _read(path)
        match environment.form:
            case "pylock":
                self._check_fits(text.encode(), place)
                return text.encode()
            case "pyproject":
                return self._narrowed(path, place)
            case "script":
                return self._resolved(requirements_of_script(text, place, path.name), path, place)
            case "conda":
                return self._resolved(requirements_of_conda(text, place.python, path.name), path, place)
            case _:
                return self._resolved(text, path, place)

    def _check_fits(self, raw: bytes, place: Place) -> None:
        try:
            chosen_wheels(parse_lock(raw), python=place.python, platform=place.platform)
        except InvalidInputError as error:
            raise explain_lock_failure(error, "", place, self.index_url) from error

    def _narrowed(self, path: Path, place: Place) -> bytes:
        if not path.with_name("uv.lock").exists():
            raise InvalidInputError(
                f"there is no uv.lock beside {path.name}",
                code="environment-file",
                why="it says which packages, exactly, the project was locked to",
                hint="make it with `uv lock`",
            )
        self.progress(f"reading uv.lock for {place}")
        raw = export_uv_lock(path.parent)
        try:
            return narrowed(raw, python=place.python, platform=place.platform)
        except InvalidInputError as error:
            raise explain_lock_failure(error, "", place, self.index_url) from error

    def _resolved(self, requirements: str, path: Path, place: Place) -> bytes:
        key = hashlib.sha256(
            "\n".join([requirements, place.python, place.platform, self.index_url or ""]).encode()
        ).hexdigest()
        kept = self.cache / "locks" / f"{key}.toml"
        if kept.exists() and not _names_files(requirements):
            return kept.read_bytes()
        self.progress(f"locking {path.name} for {place}")
        index = IndexSettings(index_url=self.index_url) if self.index_url else None
        try:
            lock = lock_requirements(
                requirements, python=place.python, platform=place.platform, folder=path.parent, index=index
            )
        except InvalidInputError as error:
            self.progress(f"looking for versions that fit {place}")
            raise explain_lock_failure(error, requirements, place, self.index_url) from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(lock)
        return lock


def requirements_of_script(text: str, place: Place, name: str) -> str:
    """The requirements in a script's inline metadata (PEP 723, "script").

    Raises:
        InvalidInputError: there is none, or two, or it is not for this Python.
    """
    blocks = [
        block.group("content")
        for block in re.finditer(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", text)
        if block.group("type") == "script"
    ]
    if len(blocks) != 1:
        raise InvalidInputError(
            f"{name} has {'no' if not blocks else 'more than one'} inline block of dependencies",
            code="environment-file",
            hint="a block begins with `# /// script` and ends with `# ///`, as PEP 723 says",
        )
    toml = "".join(line[2:] if line.startswith("# ") else line[1:] for line in blocks[0].splitlines(keepends=True))
    try:
        document: dict[str, Any] = tomllib.loads(toml)
    except ValueError as error:
        raise InvalidInputError(
            f"{name}'s inline block is not TOML", code="environment-file", why=str(error)
        ) from error
    _check_python(str(document.get("requires-python", "")), place, name)
    listed = document.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in cast("list[object]", listed)):
        raise InvalidInputError(f"{name}'s dependencies are not a list of texts", code="environment-file")
    return "".join(f"{one}\n" for one in cast("list[str]", listed))


def _check_python(wanted: str, place: Place, name: str) -> None:
    try:
        # Of the base only the minor version is known; its newest release decides nothing that a lock needs.
        good = not wanted or SpecifierSet(wanted).contains(f"{place.python}.99", prereleases=True)
    except InvalidSpecifier as error:
        raise InvalidInputError(f"{name}: requires-python can't be read", code="environment-file") from error
    if not good:
        raise InvalidInputError(
            f"{name} is not for Python {place.python}",
            code="environment-python",
            measure=f"requires-python {wanted}",
            limit=str(place),
            hint="a job runs on the Python of the site's base; see `insitu site show`",
        )


def _names_files(requirements: str) -> bool:
    """Whether other files belong to it, which may change while this text does not."""
    return re.search(r"^\s*(-r|-c|--requirement|--constraint)\b", requirements, re.MULTILINE) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(
            f"the environment file {path} can't be read",
            code="environment-file",
            why=getattr(exc, "strerror", "") or "it is not text",
        ) from exc
