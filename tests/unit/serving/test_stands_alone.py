"""The serving code alone, as an image holds it: no other part of Insitu, no web framework, not even MLflow."""

from __future__ import annotations

import json
import subprocess
import sys

from insitu.deploy.serving_code import put_serving_code

# A finder that lets nothing be imported but the standard library and what a scikit-learn environment brings.
GUARD = """
import sys
FORBIDDEN = ("mlflow", "fastapi", "starlette", "uvicorn", "httpx", "pydantic", "cryptography", "h11", "httptools")
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is not in the image")
sys.meta_path.insert(0, Guard())
import insitu.serving.process, insitu.serving.__main__, json
ours = sorted(name for name in sys.modules if name.startswith("insitu"))
print(json.dumps([ours, insitu.__file__]))
"""


def test_the_code_in_an_image_imports_nothing_else_of_ours(tmp_path):
    folder = put_serving_code(tmp_path / "code")
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{GUARD}"]
    said = subprocess.run(command, capture_output=True, check=True, timeout=60, cwd=tmp_path)
    ours, where = json.loads(said.stdout)
    assert where == str(folder / "insitu/__init__.py")
    assert {name for name in ours if not name.startswith("insitu.serving")} == {"insitu"}
    assert len(ours) > 10


def test_the_folder_is_named_by_its_content_and_made_once(tmp_path):
    first = put_serving_code(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert put_serving_code(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert {path.parent.name for path in first.rglob("*.py")} == {"insitu", "serving"}
    assert not list(first.rglob("*.pyc"))
