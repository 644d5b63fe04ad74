"""The JSON Schema of policy.yaml, for editors: pydantic's, with a line of help at every key and section.

`insitu agent init` writes it beside the policy, whose first line names it, as
editors with a YAML language server read it. It says less than `load_policy` does:
whatever it lets through may still be refused, with the reason.
"""

from __future__ import annotations

import json
from typing import Any

from insitu.gate.policy.keys import KEYS, SECTIONS
from insitu.gate.policy.values import Policy

FILE_NAME = "policy.schema.json"
FIRST_LINE = f"# yaml-language-server: $schema=./{FILE_NAME}\n"

_Node = dict[str, Any]


def policy_schema() -> _Node:
    """The schema (draft 2020-12) as JSON has it."""
    schema: _Node = Policy.model_json_schema(by_alias=True)
    for node in [schema, *schema["$defs"].values()]:
        _tidy(node)
    for path, text in {**{key: known.help for key, known in KEYS.items()}, **SECTIONS}.items():
        _find(schema, path)["description"] = text
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A site's policy"
    schema["description"] = "What may run at a site and what may leave it. Absent means denied."
    return schema


def policy_schema_text() -> str:
    """As a file."""
    return json.dumps(policy_schema(), indent=2) + "\n"


def _tidy(node: _Node) -> None:
    """Without names of classes, and without the zeros that an absent section stands for; other names are errors."""
    node.pop("title", None)
    for child in node["properties"].values():
        child.pop("title", None)
        if "$ref" in child:
            child.pop("default", None)
        if "patternProperties" in child:
            child["additionalProperties"] = False


def _find(schema: _Node, path: str) -> _Node:
    node = child = schema
    for part in path.split("."):
        child = next(iter(node["patternProperties"].values())) if part == "*" else node["properties"][part]
        node = _resolved(schema, child)
    return child


def _resolved(schema: _Node, node: _Node) -> _Node:
    """What a reference points to, also one of several choices."""
    for choice in (node, *node.get("anyOf", ())):
        if "$ref" in choice:
            return schema["$defs"][choice["$ref"].rpartition("/")[2]]
    return node
