"""The demo's own machinery: its table, its folder, and that nothing of what it starts is left."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from insitu.cli.demo.places import example, make_places
from insitu.cli.demo.table import FEATURES, TARGET, load_wdbc
from insitu.domain.errors import ConflictError, InvalidInputError
from insitu.wire.job_file import load_job_file


def test_the_table_is_the_one_that_scikit_learn_ships():
    from sklearn.datasets import load_breast_cancer

    theirs: Any = load_breast_cancer()
    ours = load_wdbc()
    assert tuple(str(name).replace(" ", "_") for name in theirs.feature_names) == FEATURES
    assert ours.rows == theirs.data.tolist()
    assert ours.malignant == [1 - int(label) for label in theirs.target]


def test_the_table_is_written_with_its_header(tmp_path):
    table = load_wdbc()
    table.write(tmp_path / "below" / "wdbc.csv")
    with (tmp_path / "below" / "wdbc.csv").open(newline="") as stream:
        header, *rows = list(csv.reader(stream))
    assert header == [*FEATURES, TARGET]
    assert len(rows) == 569


def test_the_client_asks_about_rows_of_both_kinds():
    rows, labels = load_wdbc().asked()
    assert len(rows) == len(labels)
    assert len(Counter(labels)) == 2


def test_the_example_is_a_job_file():
    job = load_job_file((example() / "job.yaml").read_text())
    assert job.contract.outputs[0].register == "breast-cancer"


def test_a_folder_that_holds_something_is_not_used(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConflictError):
        make_places(tmp_path, tmp_path / "cache")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_path_too_long_for_sockets_is_said_at_once(tmp_path):
    with pytest.raises(InvalidInputError):
        make_places(tmp_path / ("x" * 90), tmp_path / "cache")


STARTS_AND_ENDS = """
import sys
from pathlib import Path
from insitu.agent.folder import SiteFolder
from insitu.cli.demo.processes import Processes

processes = Processes(Path(sys.argv[1]))
# A child that starts another one in a session of its own, leaves it, and does not want to end either.
script = '''
trap "" TERM
setsid sh -c 'trap "" TERM; echo $$ > $0/orphan; while :; do sleep 1; done' "$1" &
while [ ! -s "$1/orphan" ]; do sleep 0.01; done
echo '{"ready": true}'
while :; do sleep 1; done
'''
child, said = processes.start("child", ["sh", "-c", script, "sh", sys.argv[1]], {"PATH": "/usr/bin:/bin"})
print(child.process.pid, flush=True)
processes.end(SiteFolder(Path(sys.argv[1])), lambda name: False)
"""


def test_what_outlives_its_parent_is_ended_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STARTS_AND_ENDS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    child, orphan = int(done.stdout), int((tmp_path / "orphan").read_text())
    assert not runs(child)
    assert not runs(orphan)


NEVER_READY = """
import sys
from pathlib import Path
from insitu.cli.demo.processes import Processes

Processes(Path(sys.argv[1])).start("hub", ["sh", "-c", "echo the disk is full >&2; exit 3"], {"PATH": "/usr/bin:/bin"})
"""


def test_a_process_that_does_not_come_up_is_told_with_the_end_of_its_log(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NEVER_READY, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "the demo's hub does not run" in done.stderr
    assert "the disk is full" in done.stderr


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
