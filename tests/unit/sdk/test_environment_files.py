"""The forms of a job's environment: each as a lock of wheels for a kind of place, or an error that says what would do."""

import subprocess
from pathlib import Path

import pytest

from insitu.domain.errors import InvalidInputError
from insitu.images.locks import find_uv, parse_lock
from insitu.sdk.conda_files import requirements_of_conda
from insitu.sdk.environment_files import Locker, requirements_of_script
from insitu.sdk.places import Place
from insitu.wire.job_file import Environment, load_job_file
from tests.package_index import PackageIndex, a_lock

HERE, ARM = Place("3.11", "x86_64-linux"), Place("3.11", "aarch64-linux")


@pytest.fixture
def index(tmp_path):
    with PackageIndex(tmp_path / "index") as running:
        yield running


class Desk:
    """A folder with a job's code, and a way to lock what is in it."""

    def __init__(self, folder: Path, index: PackageIndex) -> None:
        self.folder = folder / "code"
        self.folder.mkdir()
        self.locker = Locker(folder / "cache", index.simple_url)

    def lock(self, place: Place = HERE, **form: str) -> list[str]:
        raw = self.locker.lock(Environment(**form), self.folder, place)
        return [f"{wheel.filename}" for package in parse_lock(raw).packages for wheel in package.wheels]

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name


@pytest.fixture
def desk(tmp_path, index):
    return Desk(tmp_path, index)


def test_requirements_are_locked_for_each_platform_with_its_wheels(desk, index):
    for machine in ("x86_64", "aarch64"):
        index.add("one", tag=f"cp311-cp311-manylinux_2_28_{machine}", requires=["two"])
    index.add("two")
    name = desk.write("requirements.txt", "one==1.0\n")
    assert desk.lock(HERE, requirements=name) == [
        "one-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "two-1.0-py3-none-any.whl",
    ]
    assert desk.lock(ARM, requirements=name)[0] == "one-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"


def test_what_has_no_wheel_for_a_platform_is_told_with_the_nearest_versions_that_have(desk, index):
    for version in ("0.9", "1.2", "1.3", "2.0"):
        index.add("one", version=version, tag="cp311-cp311-manylinux_2_28_aarch64")
    index.add("one", version="1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    name = desk.write("requirements.txt", "one==1.0\n")
    with pytest.raises(InvalidInputError) as failed:
        desk.lock(ARM, requirements=name)
    assert failed.value.code == "no-wheel"
    assert failed.value.what == "one==1.0 has no wheel for Python 3.11 on aarch64-linux"
    assert failed.value.hint == "versions of one that have one: 0.9, 1.2, 1.3"


def test_a_package_that_nobody_has_is_told_from_one_without_a_wheel(desk):
    name = desk.write("requirements.txt", "nobody-has-this==1\n")
    with pytest.raises(InvalidInputError, match="nobody-has-this is not in the package index"):
        desk.lock(requirements=name)


def test_a_pylock_is_taken_as_it_is_and_must_fit_the_place(desk, index):
    raw = a_lock(index.locked(index.add("one", tag="cp311-cp311-manylinux_2_28_x86_64")))
    name = desk.write("pylock.toml", raw.decode())
    assert desk.locker.lock(Environment(pylock=name), desk.folder, HERE) == raw
    with pytest.raises(InvalidInputError) as failed:
        desk.lock(ARM, pylock=name)
    assert failed.value.what == "one==1.0 has no wheel for Python 3.11 on aarch64-linux"


def test_a_project_gives_what_its_uv_lock_has_narrowed_to_the_place(desk, index):
    for machine in ("x86_64", "aarch64"):
        index.add("one", tag=f"cp311-cp311-manylinux_2_28_{machine}")
    index.add("tool")
    name = desk.write(
        "pyproject.toml",
        '[project]\nname = "thing"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["one"]\n'
        '[dependency-groups]\ndev = ["tool"]\n',
    )
    with pytest.raises(InvalidInputError, match=r"no uv\.lock beside pyproject\.toml"):
        desk.lock(pyproject=name)
    command = [str(find_uv()), "lock", "--quiet", "--default-index", index.simple_url, "--no-python-downloads"]
    subprocess.run(command, cwd=desk.folder, check=True, capture_output=True)
    for place, machine in ((HERE, "x86_64"), (ARM, "aarch64")):
        assert desk.lock(place, pyproject=name) == [f"one-1.0-cp311-cp311-manylinux_2_28_{machine}.whl"]


SCRIPT = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "one==1.0",  # why
# ]
# ///
import one
"""


def test_a_script_s_inline_block_is_locked(desk, index):
    index.add("one")
    assert desk.lock(script=desk.write("train.py", SCRIPT)) == ["one-1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import one\n", "has no inline block"),
        (SCRIPT + SCRIPT, "more than one inline block"),
        (SCRIPT.replace(">=3.11", ">=3.12"), "is not for Python 3.11"),
        (SCRIPT.replace('"one==1.0",  # why', "1"), "are not a list of texts"),
        (SCRIPT.replace("dependencies = [", "dependencies = [["), "is not TOML"),
    ],
)
def test_an_inline_block_that_cannot_be_used_says_why(text, said):
    with pytest.raises(InvalidInputError, match=said):
        requirements_of_script(text, HERE, "train.py")


def test_a_conda_file_gives_what_pypi_has_and_the_pip_list():
    text = """
name: thing
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - numpy=1.26
  - conda-forge::scipy ==1.11.4
  - pandas>=2.1,<3
  - scikit-learn=1.4.2=py311h1
  - six
  - pip: [torch==2.3.0, skops]
"""
    assert requirements_of_conda(text, "3.11", "conda.yaml").splitlines() == [
        "numpy==1.26.*",
        "scipy==1.11.4",
        "pandas>=2.1,<3",
        "scikit-learn==1.4.2",
        "six",
        "torch==2.3.0",
        "skops",
    ]


def test_packages_that_only_conda_has_are_named_all_at_once_with_what_pypi_calls_them():
    text = "dependencies: [pytorch=2.3, cudatoolkit, libgcc-ng, _openmp_mutex, numpy]"
    with pytest.raises(InvalidInputError) as refused:
        requirements_of_conda(text, "3.11", "conda.yaml")
    assert refused.value.code == "conda-only"
    assert "pytorch (on PyPI: torch), cudatoolkit, libgcc-ng, _openmp_mutex" in refused.value.what


@pytest.mark.parametrize("text", ["[", "a: 1", "dependencies: {a: 1}", "dependencies: ['!!']"])
def test_what_is_no_conda_file_is_refused(text):
    with pytest.raises(InvalidInputError):
        requirements_of_conda(text, "3.11", "conda.yaml")


def test_a_conda_file_for_another_python_is_refused():
    with pytest.raises(InvalidInputError, match=r"is not for Python 3\.11"):
        requirements_of_conda("dependencies: [python=3.9]", "3.11", "conda.yaml")


JOB = "command: python train.py\nenvironment: {}\n"


@pytest.mark.parametrize("form", ["requirements", "pylock", "pyproject", "conda", "script"])
def test_a_job_names_one_form(form):
    found = load_job_file(JOB.replace("{}", f"{{{form}: file}}")).environment
    assert (found.form, found.path) == (form, "file")


@pytest.mark.parametrize("given", ["{}", "{pylock: a, conda: b}"])
def test_a_job_names_exactly_one(given):
    with pytest.raises(InvalidInputError, match="environment"):
        load_job_file(JOB.replace("{}", given))


@pytest.mark.parametrize("place", ["docker.io/library/python@", "oci:/srv/images@", ""])
def test_an_image_is_named_by_its_digest(place):
    reference = f"{place}sha256:{'ab' * 32}"
    assert load_job_file(JOB.replace("{}", f'{{image: "{reference}"}}')).environment.image == reference


@pytest.mark.parametrize("reference", ["docker.io/library/python:3.11", "oci:/srv/images:test", "h.io/a@sha256:ab"])
def test_an_image_by_a_tag_is_refused_with_how_to_get_its_digest(reference):
    with pytest.raises(InvalidInputError) as refused:
        load_job_file(JOB.replace("{}", f'{{image: "{reference}"}}'))
    assert refused.value.code == "image-digest"
    assert "skopeo inspect --format '{{.Digest}}'" in refused.value.hint
