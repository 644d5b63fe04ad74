"""Runs other people's tools, and asks a model that a container serves without a network: from inside."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

ASK = """
import json, time, urllib.request
def ask(path, body=None):
    request = urllib.request.Request("http://127.0.0.1:8080" + path, body, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=10).read()
for _ in range(300):
    try:
        ask("/v2/health/ready"); break
    except OSError:
        time.sleep(0.1)
print(ask("/invocations", json.dumps(BODY).encode()).decode())
"""


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout
