"""A conda.yaml as requirements of PyPI, where its packages are there, and a clear word where they aren't.

Jobs are installed from wheels alone. Many packages have one name at conda and on
PyPI, but not all: some exist at conda only, and some names mean something else on
PyPI. Those are refused by name: to take a package from PyPI because it happens to be
called so would run a stranger's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

from insitu.domain.errors import InvalidInputError

_TAKEN_CARE_OF = frozenset({"pip", "setuptools", "wheel"})  # jobs install nothing themselves

_CALLED_ON_PYPI: Mapping[str, str] = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "msgpack-python": "msgpack",
    "ruamel_yaml": "ruamel.yaml",
    "matplotlib-base": "matplotlib",
    "dask-core": "dask",
    "pyarrow-core": "pyarrow",
    "importlib_metadata": "importlib-metadata",
}
"""conda's name → the project of the same people on PyPI. What is here is never taken by conda's name."""

_ONLY_CONDA = re.compile(
    r"_|lib|r-|gcc|gxx|gfortran|clang|cuda|cudatoolkit|cudnn|nccl|pytorch-cuda|mkl|blas|openblas|openssl|"
    r"ca-certificates|ncurses|readline|sqlite|tk|xz|zlib|bzip2|ld_impl|binutils|nodejs|openjdk|compilers|make|cmake|git"
)
_BEGINS = ("_", "lib", "r-", "gcc_", "gxx_", "gfortran_", "ld_impl", "cuda-", "clang_")

_SPEC = re.compile(
    r"(?:(?P<channel>[A-Za-z0-9_./-]+)::)?(?P<name>[A-Za-z0-9_.-]+)\s*(?:\[[^\]]*\])?\s*(?P<version>[^\s\[]*)(?P<build>\s+\S+)?"
)


def requirements_of_conda(text: str, python: str, filename: str) -> str:
    """The requirements of a conda environment file.

    Raises:
        InvalidInputError: it is no such file, wants another Python, or names packages that PyPI has not.
    """
    lines: list[str] = []
    elsewhere: list[str] = []
    for entry in _dependencies(text, filename):
        if isinstance(entry, dict):
            lines += [str(one) for one in cast("dict[str, list[object]]", entry).get("pip", [])]
            continue
        found = _SPEC.fullmatch(str(entry).strip())
        if found is None:
            raise InvalidInputError(f"{filename}: {str(entry)[:80]!r} can't be read", code="environment-file")
        name, version = found["name"].lower(), found["version"]
        if name == "python":
            _check_python(version, python, filename)
        elif name in _CALLED_ON_PYPI:
            elsewhere.append(f"{name} (on PyPI: {_CALLED_ON_PYPI[name]})")
        elif name.startswith(_BEGINS) or _ONLY_CONDA.fullmatch(name):
            elsewhere.append(name)
        elif name not in _TAKEN_CARE_OF:
            lines.append(f"{name}{_specifier(version)}")
    if elsewhere:
        raise InvalidInputError(
            f"{filename} names packages that PyPI does not have under that name: {', '.join(elsewhere)}",
            code="conda-only",
            rule="wheels-only",
            why="jobs are installed from wheels alone, and conda's packages are no wheels",
            hint="put those that PyPI has under another name into the file's `pip:` list, and leave out system libraries",
        )
    return "".join(f"{line}\n" for line in lines)


def _dependencies(text: str, filename: str) -> list[object]:
    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{filename} is not YAML", code="environment-file") from error
    listed = cast("dict[str, Any]", document).get("dependencies") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise InvalidInputError(
            f"{filename} has no list of dependencies", code="environment-file", hint="is it a conda environment file?"
        )
    return cast("list[object]", listed)


def _specifier(version: str) -> str:
    """conda's way to write versions as PEP 440's: `=1.2` means 1.2 and what follows it, `=1.2.3=build` drops the build."""
    if not version or version == "*":
        return ""
    if version.startswith("==") or not version.startswith("="):
        return version if re.match(r"[<>=!~]", version) else f"=={version.partition('=')[0]}"
    number = version[1:].partition("=")[0]
    return f"=={number.rstrip('.*')}.*" if "=" not in version[1:] else f"=={number}"


def _check_python(version: str, python: str, filename: str) -> None:
    minor = re.match(r"={0,2}(\d+\.\d+)", version)
    if minor is not None and minor[1] != python:
        raise InvalidInputError(
            f"{filename} is not for Python {python}",
            code="environment-python",
            measure=f"python{version}",
            limit=f"Python {python}",
            hint="a job runs on the Python of the site's base; see `insitu site show`",
        )
