"""Makes the canonical copy of an output: the one place that knows which writer is for what.

| output | files | writer |
|---|---|---|
| `mlflow_model` | an MLmodel folder | `models.py` |
| `custom_model` | weights: safetensors, ONNX, JSON; beside them one small `config.json` | `canonical_*.py` |
| `uri_file`, `uri_folder` | tables and pictures: CSV, JSON, PNG | `canonical/tables.py`, `canonical/png.py` |

A file is what its bytes are, whatever its name says; its name only has to fit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from insitu.domain.outputs import OutputType
from insitu.gate.canonical.form import Canonical, Leaves, ObjectionError
from insitu.gate.canonical.json import rewrite_json_model
from insitu.gate.canonical.onnx import rewrite_onnx
from insitu.gate.canonical.png import is_png, rewrite_png
from insitu.gate.canonical.precision import Rounding
from insitu.gate.canonical.safetensors import rewrite_safetensors
from insitu.gate.canonical.tables import rewrite_table
from insitu.gate.ceiling import bytes_of, bytes_of_text
from insitu.gate.channels.names import objection_to
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.models import rebuild_model
from insitu.gate.policy.values import ModelRules
from insitu.gate.readers.onnx import is_onnx
from insitu.gate.readers.safetensors import is_safetensors

CONFIG = "config.json"
_CONFIG_BYTES = 4000
_ENDINGS = {"safetensors": {".safetensors"}, "onnx": {".onnx"}, "json": {".json"}, "png": {".png"}}
_MOST_FILES = 1000
_PLAIN = re.compile(
    r"(?=.{1,300}$)[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"
)  # as releases name files


@dataclass(frozen=True)
class Copy:
    files: Mapping[str, bytes]
    format: str  # several: with commas between them
    ceiling_bytes: int  # what it could carry at most; see `ceiling.py`
    sources: tuple[str, ...]  # the files, as the job wrote them, that it was made from
    types: frozenset[str] = frozenset()
    leaves: Leaves | None = None
    dropped: tuple[str, ...] = ()
    odd_names: int = 0


def make_copy(
    type: OutputType,
    files: Mapping[str, bytes],
    rules: ModelRules,
    columns: Collection[str],
    lock_packages: Sequence[tuple[str, str]],
    effort: Effort,
) -> Copy:
    """The copy that may leave, if anything does.

    Raises:
        ObjectionError: none can be made; it says which rule objects and what to do.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    if len(files) > _MOST_FILES:
        raise ObjectionError("kind", "too many files", "write fewer files")
    rounding = Rounding(rules.precision)
    if type is OutputType.MLFLOW_MODEL:
        rebuilt = rebuild_model(
            files,
            columns=columns,
            lock_packages=lock_packages,
            trusted_types=rules.trusted_types,
            effort=effort,
            rounding=rounding,
        )
        return Copy(
            rebuilt.files,
            rebuilt.format,
            bytes_of(rebuilt.carries_bits),
            (rebuilt.source,),
            types=rebuilt.types,
            leaves=rebuilt.leaves,
            dropped=rebuilt.dropped,
        )
    if type is OutputType.CUSTOM_MODEL:
        return _joined({path: _weights(path, data, rounding, effort) for path, data in sorted(files.items())})
    return _joined({path: _table(data, effort) for path, data in sorted(files.items())})


def _joined(parts: Mapping[str, Canonical]) -> Copy:
    names = "\n".join(parts)
    small = {
        path for path, one in parts.items() if path == CONFIG and len(parts) > 1 and len(one.data) <= _CONFIG_BYTES
    }
    leaves = [one.leaves for one in parts.values() if one.leaves is not None]
    counted = [one.smallest for one in leaves if one.smallest is not None]
    return Copy(
        {_plain_path(path, number, one.format): one.data for number, (path, one) in enumerate(parts.items(), start=1)},
        ",".join(sorted({one.format for path, one in parts.items() if path not in small})),
        bytes_of(sum(one.carries_bits for one in parts.values())) + bytes_of_text(names.encode()),
        tuple(parts),
        leaves=Leaves(max(one.most for one in leaves), min(counted, default=None)) if leaves else None,
        dropped=tuple(sorted({what for one in parts.values() for what in one.dropped})),
        odd_names=sum(_is_odd(path) for path in parts),
    )


def _is_odd(path: str) -> bool:
    return not _PLAIN.fullmatch(path) or any(objection_to(part) for part in PurePosixPath(path).parts)


def _plain_path(path: str, number: int, format: str) -> str:
    """The path in the copy: an odd one is replaced, so that a reviewer's yes lets no name out that the gate would not."""
    return f"file-{number}.{format}" if _is_odd(path) else path


def _weights(path: str, data: bytes, rounding: Rounding, effort: Effort) -> Canonical:
    try:
        if is_safetensors(data):
            one = rewrite_safetensors(data, rounding, effort)
        elif is_onnx(data):
            one = rewrite_onnx(data, rounding, effort)
        else:
            one = rewrite_json_model(data, rounding, effort)
    except ObjectionError:
        raise
    except NotReadableError as error:
        hint = "save the weights as safetensors, ONNX or JSON"
        raise ObjectionError("kind", f"not weights that can be rewritten: {error}", hint) from error
    if PurePosixPath(path).suffix not in _ENDINGS[one.format]:
        raise ObjectionError("kind", f"{one.format} under another name", f"name it …{min(_ENDINGS[one.format])}")
    return one


def _table(data: bytes, effort: Effort) -> Canonical:
    try:
        if is_png(data):
            return rewrite_png(data, effort)
        form, table = rewrite_table(data)
    except NotReadableError as error:
        raise ObjectionError("kind", str(error), "write JSON, CSV or PNG") from error
    return Canonical(table, form, 8 * bytes_of_text(table))
