"""Which of the logged artifacts are declared outputs: by registration, by a model's name, or by a path.

What a script may do, in the order in which it counts:
1. it registers a logged model under the name that the contract gives to an output;
2. it logs a model whose name is an output's name (the last one that became ready);
3. it logs a file or a folder whose path is an output's name.
All else is undeclared, and stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract
from insitu.intake.models import Models
from insitu.intake.runs import Runs


@dataclass(frozen=True)
class Candidate:
    output: str
    path: str  # relative to the state folder: a folder, or a file for an output of type uri_file
    by: str  # "registered", "model-name" or "path"
    model_id: str = ""


def candidates(
    contract: ReleaseContract, runs: Runs, models: Models, paths: Iterable[str]
) -> dict[str, list[Candidate]]:
    """For each declared output what was logged for it, the best first.

    Args:
        paths: of all stored files, relative to the folder of artifacts.
    """
    stored = list(paths)
    found: dict[str, list[Candidate]] = {}
    for output in contract.outputs:
        mine = [*_models_for(output, models, stored), *_paths_for(output, runs, stored)]
        if mine:
            found[output.name] = mine
    return found


def _models_for(output: OutputContract, models: Models, stored: list[str]) -> list[Candidate]:
    if output.type is OutputType.URI_FILE:
        return []
    registered: list[Candidate] = []
    named: list[Candidate] = []
    intent = models.intents.get(output.register) if output.register else None
    for model in reversed(models.logged):
        folder = f"models/{model.model_id}"
        if not _has_files(folder, stored):
            continue
        candidate = Candidate(output.name, f"artifacts/{folder}", "", model.model_id)
        if intent is not None and intent.model_id == model.model_id:
            registered.append(Candidate(output.name, candidate.path, "registered", model.model_id))
        elif model.name == output.name and model.status == "LOGGED_MODEL_READY":
            named.append(Candidate(output.name, candidate.path, "model-name", model.model_id))
    return [*registered, *named]


def _paths_for(output: OutputContract, runs: Runs, stored: list[str]) -> list[Candidate]:
    found: list[Candidate] = []
    for run in runs:
        folder = f"runs/{run.run_id}/{output.name}"
        if output.type is OutputType.URI_FILE:
            files = [path for path in stored if _is_file_for(output, f"runs/{run.run_id}", path)]
            found += [Candidate(output.name, f"artifacts/{path}", "path") for path in files]
        elif _has_files(folder, stored):
            found.append(Candidate(output.name, f"artifacts/{folder}", "path"))
    return found


def _is_file_for(output: OutputContract, run_folder: str, path: str) -> bool:
    """`log_artifact("table.csv")` serves an output `table`, and so does the one file below `table/`."""
    place = PurePosixPath(path)
    if str(place.parent) == run_folder:
        return output.name in {place.name, place.stem}
    return str(place.parent) == f"{run_folder}/{output.name}"


def _has_files(folder: str, stored: list[str]) -> bool:
    return any(path.startswith(f"{folder}/") for path in stored)


def as_document(
    found: dict[str, list[Candidate]], files: Iterable[tuple[str, int]]
) -> tuple[dict[str, Any], list[str]]:
    """`artifacts.json`, and the paths of files that no output claims."""
    chosen = {name: options[0] for name, options in found.items()}
    undeclared = [
        (path, size) for path, size in files if not any(_claims(each, f"artifacts/{path}") for each in chosen.values())
    ]
    document = {
        "outputs": {name: _entry(candidate) for name, candidate in chosen.items()},
        "also": {name: [_entry(each) for each in options[1:]] for name, options in found.items() if options[1:]},
        "undeclared": [{"path": f"artifacts/{path}", "size_bytes": size} for path, size in undeclared],
    }
    return document, [path for path, _ in undeclared]


def _claims(candidate: Candidate, path: str) -> bool:
    return path == candidate.path or path.startswith(f"{candidate.path}/")


def _entry(candidate: Candidate) -> dict[str, str]:
    entry = {"path": candidate.path, "by": candidate.by}
    if candidate.model_id:
        entry["model_id"] = candidate.model_id
    return entry
