import pytest

from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2MB", 2_000_000),
        ("256kB", 256_000),
        ("1GiB", 2**30),
        ("1 KiB", 1024),
        ("0.1GB", 10**8),
        (17, 17),
        ("5", 5),
        ("0B", 0),
    ],
)
def test_sizes_mean_what_their_prefixes_say(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("6h", 21600), ("90s", 90), ("7d", 604800), ("1.5h", 5400), (3, 3)]
)
def test_durations_mean_what_their_units_say(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["2mb", "2 gib", "-1", "", "MB", "1e3", "2MBB", "0.3B", "1_000", "٣MB", -1, True, None, 1.5]
)
def test_anything_else_is_no_size(text):
    with pytest.raises(InvalidInputError):
        parse_bytes(text)


def test_a_part_of_a_second_is_no_duration():
    with pytest.raises(InvalidInputError, match="whole number of seconds"):
        parse_seconds("0.5s")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1400, "1.4 kB"),
        (999_960, "1 MB"),
        (2_000_000, "2 MB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes_are_shown_in_si_units(size, text):
    assert format_bytes(size) == text
