"""Environments from two wheels made here, by the real uv, without an index or network."""

import base64
import csv
import hashlib
import os
import sys
import zipfile
from dataclasses import replace

import pytest

from insitu.domain.digests import Digest
from insitu.domain.errors import InvalidInputError, UnavailableError
from insitu.images.environment import environment_key, lock_requirements, materialise
from insitu.images.locks import IndexSettings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORM = "x86_64-linux"


def make_wheel(folder, name, *, source="def main():\n    return 7\n"):
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{name}/broken_template.py": "this is { not python",
        f"{name}/tests/test_it.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main\n",
    }
    record = "".join(f"{path},sha256={checksum(text.encode())},{len(text)}\n" for path, text in files.items())
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


def checksum(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class Site:
    """Folders of one site, and how it makes an environment."""

    def __init__(self, folder):
        self.wheels = folder / "wheels"
        self.target, self.cache = folder / "environments", folder / "cache"
        self.index = IndexSettings(no_index=True, find_links=(str(self.wheels),))

    def lock(self, text="one\ntwo\n"):
        return lock_requirements(text, python=PYTHON, platform=PLATFORM, index=self.index)

    def make(self, lock, **changes):
        options = {"python_version": PYTHON, "platform": PLATFORM, "cache_dir": self.cache, "index": self.index}
        return materialise(lock, self.target, offline=True, **(options | changes))


@pytest.fixture
def site(tmp_path):
    found = Site(tmp_path / "site")
    found.wheels.mkdir(parents=True)
    make_wheel(found.wheels, "one")
    make_wheel(found.wheels, "two")
    return found


def contents(tree):
    return {
        str(path.relative_to(tree)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def site_packages(tree):
    return tree / "lib" / f"python{PYTHON}" / "site-packages"


def test_the_tree_is_what_is_mounted_at_opt_env(site):
    made = site.make(site.lock())
    tree = made.tree
    assert str((tree / "bin/python").readlink()).startswith("/usr/bin/python3")
    assert (tree / "pyvenv.cfg").read_text().startswith("home = /usr/bin\ninclude-system-site-packages = false\n")
    assert (tree / "bin/one-run").read_text().startswith("#!/opt/env/bin/python\n")
    assert os.access(tree / "bin/one-run", os.X_OK)
    assert (site_packages(tree) / "two/__init__.py").is_file()
    assert not (site_packages(tree) / "bin").exists()
    assert made.packages == (("one", "1.0"), ("two", "1.0"))


def test_sources_are_compiled_and_what_does_not_compile_is_left(site):
    packages = site_packages(site.make(site.lock()).tree)
    compiled = packages / "one/__pycache__" / f"__init__.{sys.implementation.cache_tag}.pyc"
    raw = compiled.read_bytes()
    assert raw[4:8] == b"\1\0\0\0"  # PEP 552: by hash, unchecked
    assert b"/opt/env/lib/" in raw
    assert str(site.target).encode() not in raw
    assert [path.name for path in (packages / "one/__pycache__").iterdir()] == [compiled.name]
    assert not (packages / "one/tests/__pycache__").exists()


def test_record_names_each_script_where_it_is_with_its_own_hash(site):
    packages = site_packages(site.make(site.lock()).tree)
    with (packages / "one-1.0.dist-info/RECORD").open(newline="") as stream:
        rows = {row[0]: row[1] for row in csv.reader(stream)}
    script = packages / "../../../bin/one-run"
    assert rows["../../../bin/one-run"] == f"sha256={checksum(script.read_bytes())}"
    assert not any("uv_cache" in name for name in rows)


def test_the_same_lock_gives_the_same_bytes_in_another_place(site, tmp_path):
    lock = site.lock()
    first = site.make(lock)
    other = Site(tmp_path / "elsewhere-with-a-longer-name")
    other.wheels.parent.mkdir()
    site.wheels.rename(other.wheels)
    for wheel in other.wheels.iterdir():
        os.utime(wheel, (1, 1))
    assert contents(other.make(lock).tree) == contents(first.tree)


def test_a_lock_seen_before_is_found_without_its_wheels(site):
    lock = site.lock()
    first = site.make(lock)
    for wheel in site.wheels.iterdir():
        wheel.unlink()
    assert site.make(lock) == replace(first, reused=True)


def test_a_wheel_with_another_hash_than_the_lock_is_refused_and_nothing_stays(site):
    lock = site.lock()
    make_wheel(site.wheels, "one", source="import os  # not what was signed\n")
    with pytest.raises(InvalidInputError) as refused:
        site.make(lock)
    assert "one" in refused.value.why
    assert [path.name for path in site.target.iterdir() if not path.name.startswith(".lock-")] == []


def test_a_wheel_in_the_cache_with_another_hash_is_refused_too(site):
    site.make(site.lock())  # fills the cache
    lock = site.lock().replace(hash_of(site, "one").encode(), b"0" * 64)
    with pytest.raises(InvalidInputError):
        site.make(lock)


def hash_of(site, name):
    return hashlib.sha256((site.wheels / f"{name}-1.0-py3-none-any.whl").read_bytes()).hexdigest()


def test_a_lock_with_a_source_distribution_is_refused_before_anything_is_made(site):
    lock = (
        b'lock-version = "1.0"\n[[packages]]\nname = "one"\nversion = "1"\nsdist = { url = "https://x/one-1.tar.gz" }\n'
    )
    with pytest.raises(InvalidInputError) as refused:
        site.make(lock)
    assert refused.value.rule == "wheels-only"
    assert not site.target.exists()


def test_files_are_links_into_the_cache_and_read_only(site):
    source = site_packages(site.make(site.lock()).tree) / "one/__init__.py"
    assert source.stat().st_nlink > 1
    assert source.stat().st_mode & 0o222 == 0


def test_scripts_are_never_changed_in_the_cache(site):
    site.make(site.lock())
    cached = [path.read_bytes() for path in site.cache.rglob("*") if path.is_file()]
    assert not any(content.startswith(b"#!/opt/env") for content in cached)


def test_a_tree_without_its_last_file_is_made_again(site):
    lock = site.lock()
    made = site.make(lock)
    (made.tree.parent / "environment.json").unlink()
    (made.tree / "pyvenv.cfg").unlink()
    again = site.make(lock)
    assert not again.reused
    assert (again.tree / "pyvenv.cfg").exists()


def test_an_empty_lock_gives_an_environment_with_python_alone(site):
    made = site.make(b'lock-version = "1.0"\n')
    assert made.packages == ()
    assert (made.tree / "bin/python3").is_symlink()


def test_a_python_that_nothing_here_can_compile_for_is_said_so(site):
    with pytest.raises(UnavailableError, match=r"3\.8"):
        site.make(site.lock(), python_version="3.8")


def test_the_key_changes_with_each_thing_that_changes_bytes():
    keys = {
        environment_key(Digest(lock), base, platform, python)
        for lock, base, platform, python in (
            ("sha256:a", "sha256:b", "x86_64-linux", "3.11"),
            ("sha256:c", "sha256:b", "x86_64-linux", "3.11"),
            ("sha256:a", "sha256:c", "x86_64-linux", "3.11"),
            ("sha256:a", "sha256:b", "aarch64-linux", "3.11"),
            ("sha256:a", "sha256:b", "x86_64-linux", "3.12"),
        )
    }
    assert len(keys) == 5


def test_index_settings_are_sent_to_uv_as_a_file(site):
    # The same lock through names and hashes alone: the address in the lock plays no part.
    lock = site.lock().replace(str(site.wheels).encode(), b"/nowhere")
    assert site.make(lock).packages == (("one", "1.0"), ("two", "1.0"))
