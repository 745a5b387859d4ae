import pytest

from aworker.clock import parse_rfc3339, rfc3339


@pytest.mark.parametrize(
    ("text", "instant_s"),
    [
        ("2024-01-01T12:00:00Z", 1704110400.0),
        ("2024-01-01T12:00:00", 1704110400.0),
        ("2024-01-01 12:00:00z", 1704110400.0),
        ("2024-01-01T14:30:00+02:30", 1704110400.0),
        ("2024-01-01T07:00:00-05:00", 1704110400.0),
        ("2024-01-01T12:00:00.5Z", 1704110400.5),
        ("2024-01-01T12:00:00.123456789Z", 1704110400.123456789),
        ("2024-01-01T12:00Z", 1704110400.0),
    ],
)
def test_instants_are_read_in_every_form_that_producers_write(text: str, instant_s: float) -> None:
    assert parse_rfc3339(text) == pytest.approx(instant_s, abs=1e-6)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T25:00:00Z", "17"])
def test_what_is_no_instant_gives_none(text: str) -> None:
    assert parse_rfc3339(text) is None


def test_written_instants_are_utc_with_z_and_read_back() -> None:
    assert rfc3339(1704110400.25) == "2024-01-01T12:00:00.250000Z"
    assert parse_rfc3339(rfc3339(1704110400.25)) == 1704110400.25
