"""The same script in a bare sandbox, with nobody at the gate: what it wrote is what gets out.

This is each attack's proof: a decoder that recovers nothing here shows nothing
anywhere.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.leaks.cases import Case
from benchmarks.leaks.let_out import LetOut, Metric
from benchmarks.scene import bare_bwrap
from insitu.images.base import UnpackedBase

_TIMEOUT_S = 300.0
_PRINTED = 128  # what a shell adds to a signal's number


@dataclass(frozen=True)
class OpenGate:
    base: UnpackedBase
    environment: Path
    code: Path
    data: Path  # a folder for each dataset
    folder: Path

    def play(self, case: Case, variant: str, run: int = 0) -> LetOut:
        """Run the script once, and take everything."""
        work = Path(tempfile.mkdtemp(prefix="open-", dir=self.folder))
        outputs, record = work / "outputs", work / "record"
        for folder in (outputs, record):
            folder.mkdir(mode=0o777)
        begun = time.monotonic()
        command = self._command(case, outputs, record)
        argv = [*command, case.path, str(case.variants.index(variant)), str(run)]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False)
        let_out = LetOut(seconds=time.monotonic() - begun, lines=(done.stdout + done.stderr).splitlines())
        let_out.exit_code = done.returncode if done.returncode < _PRINTED else _PRINTED - done.returncode
        let_out.files = read_folders(outputs)
        read_record(record / "calls.jsonl", let_out)
        return let_out

    def evaluate(self, case: Case, files: dict[str, dict[str, bytes]]) -> float:
        """The accuracy of what left, on rows that the model has not seen, in the job's own environment."""
        work = Path(tempfile.mkdtemp(prefix="judged-", dir=self.folder))
        for output, paths in files.items():
            for path, data in paths.items():
                target = work / output / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        command = self._command(case, work, work)
        argv = [*command, case.path, "accuracy", "0"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"{case.name} can't be evaluated:\n{done.stderr[-2000:]}")
        return float(done.stdout.split()[-1])

    def _command(self, case: Case, outputs: Path, record: Path) -> list[str]:
        more = [
            "--ro-bind",
            str(self.code),
            "/job/code",
            "--ro-bind",
            str(self.data / case.dataset),
            "/job/inputs/table",
        ]
        more += ["--bind", str(outputs), "/job/outputs", "--bind", str(record), "/job/record", "--tmpfs", "/tmp"]
        more = ["--tmpfs", "/job", "--dir", "/job/inputs", *more, "--chdir", "/job/code", "--clearenv"]
        settings = {
            "PATH": "/opt/env/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "INSITU_INPUT_TABLE": "/job/inputs/table",
            "INSITU_OUTPUTS": "/job/outputs",
            "OPEN_GATE": "/job/record/calls.jsonl",
        }
        for name, value in settings.items():
            more += ["--setenv", name, value]
        argv = ["python", "-m", "benchmarks.leaks.inside.play"]
        return bare_bwrap(self.base, self.environment, argv, *more)


def read_folders(outputs: Path) -> dict[str, dict[str, bytes]]:
    """Output → path → content."""
    return {
        folder.name: {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        for folder in sorted(outputs.iterdir())
        if folder.is_dir()
    }


def read_record(path: Path, let_out: LetOut) -> None:
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        kind: str
        what: Any
        kind, what = json.loads(line)
        if kind == "metrics":
            let_out.metrics += [Metric(key, value, step, at) for key, value, step, at in what]
            let_out.kept["metric"] = let_out.kept.get("metric", 0) + len(what)
        elif kind == "params":
            let_out.params |= what
        elif kind == "tags":
            let_out.tags |= what
        else:
            let_out.words.append(what)
