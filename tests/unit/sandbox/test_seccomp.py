"""The checked-in filters are what the list says, and a small machine for BPF says what they decide."""

import ctypes
import json
import struct

import pytest

from insitu.domain.errors import UnavailableError
from insitu.sandbox.seccomp import bpf_program, generate, oci_profile_path

LIST = generate.load_list()
NUMBERS = generate.load_numbers()
NAMES = {"ALLOW": generate.ALLOW, "EPERM": generate.EPERM, "ENOSYS": generate.ENOSYS, "KILL": generate.KILL_PROCESS}
MACHINES = sorted(generate.MACHINES)


def decide(machine: str, number: int, *arguments: int, architecture: int | None = None) -> str:
    """What the checked-in program answers to one call: an interpreter of the instructions that it uses."""
    program = list(struct.iter_unpack("<HBBI", bpf_program(machine)))
    architecture = generate.MACHINES[machine][0] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return next(name for name, verdict in NAMES.items() if verdict == value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += if_true if holds else if_false


def test_the_checked_in_products_are_what_the_generator_makes():
    for name, content in generate.products().items():
        assert (generate.FOLDER / name).read_bytes() == content, (
            f"{name}: run python -m insitu.sandbox.seccomp.generate"
        )


def test_every_group_has_a_reason_and_no_call_stands_twice():
    groups = [group for part in ("allowed", "denied", "unsupported") for group in LIST[part].values()]
    assert all(group["reason"] for group in groups)
    assert all(rule["reason"] for rules in LIST["filtered"].values() for rule in rules)
    names = [name for group in groups for name in group["names"].split()] + list(LIST["filtered"])
    assert len(names) == len(set(names))
    assert set(names) == set(NUMBERS)


def test_the_numbers_are_those_of_libseccomp():
    library = ctypes.CDLL("libseccomp.so.2")  # comes with bubblewrap
    for name, of in NUMBERS.items():
        for machine, number in of.items():
            known = library.seccomp_syscall_resolve_name_arch(generate.MACHINES[machine][0], name.encode())
            assert known < 0 or known == number, (name, machine)  # below 0: newer than this libseccomp


@pytest.mark.parametrize("machine", MACHINES)
def test_each_call_gets_the_verdict_of_its_group(machine: str):
    for part, verdict in (("allowed", "ALLOW"), ("denied", "EPERM"), ("unsupported", "ENOSYS")):
        for name in generate.names_in(LIST[part]):
            if machine in NUMBERS[name]:
                assert decide(machine, NUMBERS[name][machine]) == verdict, name


@pytest.mark.parametrize("machine", MACHINES)
def test_what_no_group_names_is_refused_and_what_is_newer_looks_absent(machine: str):
    known = {of[machine] for of in NUMBERS.values() if machine in of}
    for number in range(max(known) + 1):
        if number not in known:
            assert decide(machine, number) == "EPERM", number
    assert decide(machine, max(known) + 1) == "ENOSYS"
    assert decide(machine, 0x3FFFFFFF) == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_ends_the_process(machine: str):
    assert decide(machine, 0, architecture=0x40000003) == "KILL"  # i386 on x86_64


def test_x32_calls_end_the_process():
    assert decide("x86_64", 0x40000000 | NUMBERS["read"]["x86_64"]) == "KILL"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("socket", (1,), "ALLOW"),
        ("socket", (2, 1, 6), "ALLOW"),
        ("socket", (10, 2), "ALLOW"),
        ("socket", (16, 3, 0), "ALLOW"),
        ("socket", (16, 3, 9), "EPERM"),
        ("socket", (17, 3), "EPERM"),
        ("socket", (40,), "EPERM"),
        ("socket", ((1 << 32) + 17,), "EPERM"),
        ("socketpair", (1,), "ALLOW"),
        ("socketpair", (2,), "EPERM"),
        ("clone", (0x3D0F00,), "ALLOW"),
        ("clone", (17,), "ALLOW"),
        *(
            ("clone", (17 | flag,), "EPERM")
            for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000)
        ),
        ("clone", (17 | 0x40000000,), "EPERM"),
        ("ioctl", (0, 0x5413), "ALLOW"),
        ("ioctl", (0, 0x5412), "EPERM"),
        ("ioctl", (0, 0x541C), "EPERM"),
        ("ioctl", (0, (1 << 32) + 0x5412), "EPERM"),
        ("personality", (0xFFFFFFFF,), "ALLOW"),
        ("personality", (0x40000,), "EPERM"),
    ],
)
def test_arguments_decide(machine: str, name: str, arguments: tuple[int, ...], verdict: str):
    assert decide(machine, NUMBERS[name][machine], *arguments) == verdict


@pytest.mark.parametrize("request_number", [0x5412, 0x541C, 0x5413, 0x5410, 0x541E, 0, 0xFFFFFFFF, (1 << 32) + 0x5412])
def test_the_oci_profile_decides_ioctl_like_the_program(request_number: int):
    profile = json.loads(oci_profile_path().read_text())
    allowed = any(
        all((request_number & c["value"]) == c["valueTwo"] for c in entry["args"])
        for entry in profile["syscalls"]
        if entry["names"] == ["ioctl"]
    )
    assert allowed == (decide("x86_64", NUMBERS["ioctl"]["x86_64"], 0, request_number) == "ALLOW")


def test_there_is_no_filter_for_other_processors():
    with pytest.raises(UnavailableError):
        bpf_program("riscv64")
