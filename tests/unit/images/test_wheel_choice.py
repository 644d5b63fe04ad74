"""One wheel for each package and place, the same wherever it is asked."""

import pytest

from insitu.domain.errors import InvalidInputError
from insitu.images.locks import parse_lock
from insitu.images.wheel_choice import chosen_wheels, fits, narrowed

HERE = {"python": "3.11", "platform": "x86_64-linux"}
THERE = {"python": "3.11", "platform": "aarch64-linux"}


def a_lock(*packages: tuple[str, list[str], str]) -> bytes:
    lines = ['lock-version = "1.0"', 'created-by = "test"']
    for name, tags, marker in packages:
        files = ", ".join(
            f'{{ url = "https://files.example/{name}-1.0-{tag}.whl", hashes = {{ sha256 = "{number:064x}" }} }}'
            for number, tag in enumerate(tags, start=1)
        )
        lines += ["[[packages]]", f'name = "{name}"', 'version = "1.0"', f"wheels = [{files}]"]
        lines += [f'marker = "{marker}"'] if marker else []
    return "\n".join(lines).encode()


def chosen(raw: bytes, **place: str) -> list[str]:
    return [wheel.filename for _, wheel in chosen_wheels(parse_lock(raw), **(place or HERE))]


def test_the_most_particular_wheel_is_taken_whatever_the_order_in_the_lock():
    tags = ["py3-none-any", "cp37-abi3-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_17_x86_64"]
    for order in (tags, tags[::-1]):
        assert chosen(a_lock(("one", order, ""))) == ["one-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"]


def test_the_newest_build_of_the_same_kind_is_taken():
    assert chosen(a_lock(("one", ["1-py3-none-any", "12-py3-none-any", "2-py3-none-any"], ""))) == [
        "one-1.0-12-py3-none-any.whl"
    ]


def test_each_platform_gets_its_own_wheel_of_one_lock():
    raw = a_lock(("one", [f"cp311-cp311-manylinux_2_28_{machine}" for machine in ("x86_64", "aarch64")], ""))
    assert chosen(raw, **HERE) == ["one-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"]
    assert chosen(raw, **THERE) == ["one-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"]


@pytest.mark.parametrize(
    ("tag", "good"),
    [
        ("cp311-cp311-manylinux2014_x86_64", True),
        ("cp311-cp311-manylinux_2_5_x86_64.manylinux1_x86_64", True),
        ("cp39-abi3-manylinux_2_28_x86_64", True),
        ("cp311-cp311-linux_x86_64", True),
        ("py2.py3-none-any", True),
        ("cp311-cp311-manylinux_2_34_x86_64", False),
        ("cp312-abi3-manylinux_2_28_x86_64", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
        ("cp311-cp311-win_amd64", False),
        ("cp311-cp311-macosx_11_0_arm64", False),
        ("cp310-cp310-manylinux_2_28_x86_64", False),
        ("py2-none-any", False),
    ],
)
def test_what_fits_a_machine_of_glibc_2_28(tag, good):
    assert fits(f"one-1.0-{tag}.whl", **HERE) is good


def test_markers_are_those_of_the_place_and_not_of_this_machine():
    raw = a_lock(
        ("arm", ["py3-none-any"], "platform_machine == 'aarch64'"),
        ("windows", ["cp311-cp311-win32"], "sys_platform == 'win32'"),
        ("old", ["cp39-cp39-win32"], "python_version < '3.10'"),
        ("extra", ["cp39-cp39-win32"], "'big' in extras"),
        ("always", ["py3-none-any"], ""),
    )
    assert chosen(raw, **HERE) == ["always-1.0-py3-none-any.whl"]
    assert chosen(raw, **THERE) == ["arm-1.0-py3-none-any.whl", "always-1.0-py3-none-any.whl"]


def test_a_package_without_a_wheel_for_the_place_is_named_with_what_it_has():
    with pytest.raises(InvalidInputError) as refused:
        chosen(a_lock(("one", ["cp311-cp311-win_amd64"], "")), **THERE)
    assert refused.value.what == "one==1.0 has no wheel for Python 3.11 on aarch64-linux"
    assert "win_amd64" in refused.value.measure


def test_a_marker_that_cannot_be_read_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="marker for one"):
        chosen(a_lock(("one", ["py3-none-any"], "what is this")))


def test_a_lock_narrowed_to_a_place_has_its_wheels_alone_and_the_same_bytes_each_time():
    raw = a_lock(
        ("one", ["cp311-cp311-win32", "cp311-cp311-manylinux_2_28_x86_64", "py3-none-any"], ""),
        ("two", ["cp311-cp311-win32"], "sys_platform == 'win32'"),
    )
    made = narrowed(raw, **HERE)
    assert made == narrowed(raw, **HERE)
    [package] = parse_lock(made).packages
    assert [wheel.filename for wheel in package.wheels] == ["one-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"]
    assert made != narrowed(raw, **THERE)
