"""Reads a policy file, whole or not at all.

A file that is empty, malformed, has an unknown or repeated key, a wrong type,
or asks for something that this version does not enforce is no policy:
`load_policy` raises, and until it is mended nothing leaves and nothing runs.
Every complaint names the key by its dotted path, and its line.

    text ─yaml─► mapping ─unenforced─► ─pydantic, strict─► Policy

The values are in `policy/values.py`; the file's keys are in `docs/policy.md`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import InvalidInputError
from insitu.gate.policy.default import DEFAULT_POLICY_TEXT
from insitu.gate.policy.schema import policy_schema
from insitu.gate.policy.unenforced import unenforced
from insitu.gate.policy.values import (
    BudgetRules,
    DatasetRules,
    DeploymentRules,
    FileRules,
    LogRules,
    MetricRules,
    ModelRules,
    ParamRules,
    Policy,
    Ports,
    ReleaseRules,
    ReviewRules,
    SandboxRules,
)

__all__ = [
    "DEFAULT_POLICY_TEXT",
    "BudgetRules",
    "DatasetRules",
    "DeploymentRules",
    "FileRules",
    "LogRules",
    "MetricRules",
    "ModelRules",
    "ParamRules",
    "Policy",
    "Ports",
    "ReleaseRules",
    "ReviewRules",
    "SandboxRules",
    "load_policy",
    "policy_digest",
    "policy_schema",
]

_MAX_BYTES = 1 << 20
_DENIED = "nothing leaves, nothing runs, until the policy is mended"
_Path = tuple[str, ...]


def load_policy(text: str) -> Policy:
    """The policy that `text` (a policy.yaml) states.

    Raises:
        InvalidInputError: `policy-empty`, `policy-not-enforced` or
            `policy-invalid`. Each complaint has a path and a line.
    """
    document, lines = _read_yaml(text)
    complaints = unenforced(document)
    if complaints:
        whats = [_at_line(what, path, lines) for path, what, _ in complaints]
        raise _invalid(whats, "; ".join(hint for _, _, hint in complaints), code="policy-not-enforced")
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise _from_pydantic(error, lines) from error


def policy_digest(text: str) -> Digest:
    """The digest of the file as it stands, comments included: what the ledger names."""
    return digest_of(text.encode())


# ── YAML: safe, no repeated keys, lines remembered ──────────────────────────


def _read_yaml(text: str) -> tuple[Mapping[str, Any], Mapping[_Path, int]]:
    if len(text) > _MAX_BYTES:
        raise _invalid(["the policy is larger than 1 MiB"], "a policy is a page or two")
    lines: dict[_Path, int] = {}
    try:
        loader: Any = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is not None:
            _note_lines(root, (), lines, set())
        document: Any = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise _invalid([f"{where}{error.problem or 'not YAML'}"], "write it as YAML, like the example") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # e.g. a control character, or the date 2027-02-30
        raise _invalid(
            [f"not readable as YAML: {type(error).__name__}"], "write it as YAML, like the example"
        ) from error
    if document is None:
        raise _invalid(["the policy is empty"], "`insitu agent init` writes one to start with", code="policy-empty")
    if not isinstance(document, dict):
        raise _invalid(["the policy is not a mapping of keys to values"], "see docs/policy.md")
    return cast("dict[str, Any]", document), lines


def _note_lines(node: yaml.Node, path: _Path, lines: dict[_Path, int], seen: set[int]) -> None:
    """Remember each key's line, and refuse what YAML would silently overwrite or share."""
    if id(node) in seen:  # an alias; nested ones would take exponential time to walk
        raise _invalid([f"line {node.start_mark.line + 1}: `&` and `*` are not used in a policy"], "write it out")
    seen.add(id(node))
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, str(index)), lines, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            raise _invalid([f"line {line}: a key must be plain text"], 'put it in quotes: "no", "1"')
        child = (*path, key_node.value)
        if child in lines:  # YAML would keep the last one without a word
            raise _invalid([f"line {line}: {'.'.join(child)} is there twice"], "keep one of them")
        lines[child] = line
        _note_lines(value_node, child, lines, seen)


# ── Errors ──────────────────────────────────────────────────────────────────


def _invalid(whats: Sequence[str], hint: str, *, code: str = "policy-invalid") -> InvalidInputError:
    return InvalidInputError("; ".join(whats), code=code, why=_DENIED, hint=hint)


def _at_line(what: str, path: _Path, lines: Mapping[_Path, int]) -> str:
    depth = max(depth for depth in range(len(path) + 1) if path[:depth] in lines)  # a missing key: at its parent
    return f"line {lines[path[:depth]]}: {what}"


def _from_pydantic(error: ValidationError, lines: Mapping[_Path, int]) -> InvalidInputError:
    whats: list[str] = []
    hints: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        path = tuple(str(part) for part in problem["loc"] if part != "[key]")
        path = tuple(part for part in path if not part.startswith(("function-", "constrained-")))
        dotted = ".".join(path) or "the policy"
        if problem["type"] == "extra_forbidden":
            what, hint = f"{dotted} is not a key of a policy", _did_you_mean(path)
        elif problem["type"] == "missing":
            what, hint = f"{dotted} is missing", "say it; nothing is assumed"
        else:
            what, hint = f"{dotted}: {problem['msg'].removeprefix('Value error, ')}", "see docs/policy.md"
        whats.append(_at_line(what, path, lines))
        if hint not in hints:
            hints.append(hint)
    return _invalid(whats, "; ".join(hints))


def _did_you_mean(path: _Path) -> str:
    known = _keys_at(path[:-1])
    close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {'.'.join((*path[:-1], close[0]))}?"
    return f"known here: {', '.join(known)}"


def _keys_at(path: _Path) -> list[str]:
    """The keys that the section at `path` has, as the file writes them."""
    model: type[BaseModel] = Policy
    for part in path:
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        annotation = fields.get(part, DatasetRules)  # what is no field is a dataset's name, in `datasets`
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]
