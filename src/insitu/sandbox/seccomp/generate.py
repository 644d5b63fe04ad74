"""Makes the BPF programs and the OCI profile from `syscalls.toml`.

    python -m insitu.sandbox.seccomp.generate

The assembler is our own, some eighty lines, so that the products need no
library and come out the same on every machine. Sources: seccomp(2), and the
kernel's Documentation/userspace-api/seccomp_filter.rst for the program's
input; linux/filter.h for the instructions; the numbers of system calls are in
`numbers.json`, as libseccomp resolves them (a test compares).

The order of a program: wrong architecture kills; x32 calls kill; calls with
filtered arguments; then ranges of numbers by their verdict. The kernel caches
verdicts that depend on the number alone (since 5.11), so length costs nothing
per call.
"""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

# Audit architecture and whether the x32 bit has to be refused.
MACHINES: Mapping[str, tuple[int, bool]] = {"x86_64": (0xC000003E, True), "aarch64": (0xC00000B7, False)}
_OCI_ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
EPERM = 0x00050000 | 1
ENOSYS = 0x00050000 | 38

# linux/filter.h: load a word of seccomp_data, jump, return.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_X32_BIT = 0x40000000

Instruction = tuple[int, int, int, int]
Rule = Mapping[str, Any]
OciCondition = dict[str, int | str]


def load_list() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "syscalls.toml").read_text(encoding="utf-8"))


def load_numbers() -> dict[str, dict[str, int]]:
    """name → machine → number; a machine that lacks the call is left out."""
    return json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))


def names_in(groups: Mapping[str, Any]) -> list[str]:
    return sorted(name for group in groups.values() for name in group["names"].split())


def make_bpf(syscalls: Mapping[str, Any], numbers: Mapping[str, Mapping[str, int]], machine: str) -> bytes:
    """The program for one machine, as bytes of `struct sock_filter`."""
    architecture, has_x32 = MACHINES[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if has_x32:
        program += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, KILL_PROCESS)]
    for name, rules in sorted(syscalls["filtered"].items()):
        number = numbers[name].get(machine)
        if number is not None:
            program += _filtered(number, rules)
    verdicts = {numbers[n][machine]: ALLOW for n in names_in(syscalls["allowed"]) if machine in numbers[n]}
    verdicts |= {numbers[n][machine]: ENOSYS for n in names_in(syscalls["unsupported"])}
    for first, last, verdict in _ranges(verdicts):
        program += [(_JUMP_AT_LEAST, 0, 2, first), (_JUMP_AT_LEAST, 1, 0, last + 1), (_RETURN, 0, 0, verdict)]
    newest = max(of[machine] for of in numbers.values() if machine in of)
    program += [(_JUMP_AT_LEAST, 0, 1, newest + 1), (_RETURN, 0, 0, ENOSYS), (_RETURN, 0, 0, EPERM)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def make_oci_profile(syscalls: Mapping[str, Any]) -> dict[str, Any]:
    """The same rules in the form of the OCI runtime specification.

    runc and crun add by themselves that calls newer than all of these fail with ENOSYS.
    """
    entries: list[dict[str, Any]] = [{"names": names_in(syscalls["allowed"]), "action": "SCMP_ACT_ALLOW"}]
    for name, rules in sorted(syscalls["filtered"].items()):
        entries += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": args} for args in _oci_arguments(rules)]
    entries.append({"names": names_in(syscalls["denied"]), "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    unsupported = {"names": names_in(syscalls["unsupported"]), "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": sorted(_OCI_ARCHITECTURE.values()),
        "syscalls": [*entries, unsupported],
    }


def products() -> dict[str, bytes]:
    """File name → content, of everything that is checked in."""
    syscalls, numbers = load_list(), load_numbers()
    made = {f"{machine}.bpf": make_bpf(syscalls, numbers, machine) for machine in MACHINES}
    made["oci.json"] = (json.dumps(make_oci_profile(syscalls), indent=1) + "\n").encode()
    return made


def main() -> None:
    for name, content in products().items():
        (FOLDER / name).write_bytes(content)


def _filtered(number: int, rules: Sequence[Rule]) -> list[Instruction]:
    """If the call is `number`: ALLOW when one rule holds, else EPERM. Falls through with the number loaded."""
    body: list[Instruction] = []
    for rule in rules:
        body += _test(rule)
    body.append((_RETURN, 0, 0, EPERM))
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _test(rule: Rule) -> list[Instruction]:
    """Return ALLOW when the rule holds, else fall through to the next one.

    Only the low word of an argument is compared: the kernel itself takes these
    arguments as 32-bit values (or, for clone's flags, the namespaces' bits lie
    in the low word).
    """
    low_word = (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * rule["argument"])
    if "none_of_bits" in rule:
        return [low_word, (_JUMP_ANY_BIT, 1, 0, rule["none_of_bits"]), (_RETURN, 0, 0, ALLOW)]
    if "none_of" in rule:
        count = len(rule["none_of"])
        skips = [(_JUMP_EQUAL, count - at, 0, value) for at, value in enumerate(rule["none_of"])]
        return [low_word, *skips, (_RETURN, 0, 0, ALLOW)]
    then: list[Instruction] = [(_RETURN, 0, 0, ALLOW)]
    if "and_argument" in rule:
        then = _test({"argument": rule["and_argument"], "any_of": rule["and_any_of"]})
    values = rule["any_of"]
    jumps = [(_JUMP_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    # No value matched: skip what follows a match.
    return [low_word, *jumps, (_JUMP_AT_LEAST, len(then), len(then), 0), *then]


def _ranges(verdicts: Mapping[int, int]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for number, verdict in sorted(verdicts.items()):
        if found and found[-1][1] == number - 1 and found[-1][2] == verdict:
            found[-1] = (found[-1][0], number, verdict)
        else:
            found.append((number, number, verdict))
    return found


def _oci_arguments(rules: Sequence[Rule]) -> list[list[OciCondition]]:
    """One list of conditions (all must hold) for each entry; entries of one call are alternatives."""
    entries: list[list[OciCondition]] = []
    for rule in rules:
        at = rule["argument"]
        if "none_of_bits" in rule:
            entries.append([_masked(at, rule["none_of_bits"], 0)])
        elif "none_of" in rule:
            entries += _oci_none_of(at, rule["none_of"])
        elif "and_argument" in rule:
            pairs = [(a, b) for a in rule["any_of"] for b in rule["and_any_of"]]
            entries += [[_equal(at, a), _equal(rule["and_argument"], b)] for a, b in pairs]
        else:
            entries += [[_equal(at, value)] for value in rule["any_of"]]
    return entries


def _oci_none_of(at: int, values: Sequence[int]) -> list[list[OciCondition]]:
    """That the low word is none of the values, exactly, out of tests for single bits.

    "Not equal" would not do: it looks at all 64 bits, of which the kernel takes
    32, and a runtime makes alternatives of two conditions on one argument.
    """
    mixed = 0
    for value in values:
        mixed |= value ^ values[0]
    same = [1 << bit for bit in range(32) if not mixed >> bit & 1]
    entries = [[_masked(at, bit, ~values[0] & bit)] for bit in same]
    patterns = [pattern for pattern in range(mixed + 1) if pattern & ~mixed == 0]
    return entries + [[_masked(at, mixed, p)] for p in patterns if p not in [value & mixed for value in values]]


def _equal(index: int, value: int) -> OciCondition:
    return {"index": index, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ"}


def _masked(index: int, mask: int, value: int) -> OciCondition:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


if __name__ == "__main__":
    main()
