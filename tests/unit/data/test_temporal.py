"""Times as text and back, over all that Postgres can hold."""

from __future__ import annotations

import pytest

from flux.data import temporal


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "2000-01-01T00:00:00.000000+00:00"),
        (-1, "1999-12-31T23:59:59.999999+00:00"),
        (2**63 - 1, "infinity"),
        (-(2**63), "-infinity"),
        (9223371331199999999, "294276-12-31T23:59:59.999999+00:00"),
        (-211813488000000000, "4714-11-24T00:00:00.000000+00:00 BC"),
    ],
)
def test_timestamptz_round_trips(micros: int, text: str) -> None:
    assert temporal.timestamptz_text((micros,)) == text
    assert temporal.parse_timestamptz(text) == (micros,)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-06-01T12:00:00Z", "2024-06-01T12:00:00.000000+00:00"),
        ("2024-06-01T12:00:00.5+05:30", "2024-06-01T06:30:00.500000+00:00"),
        ("2024-06-01 12:00:00-08", "2024-06-01T20:00:00.000000+00:00"),
        ("2024-06-01", "2024-06-01T00:00:00.000000+00:00"),
        ("10000-01-01 00:00:00", "10000-01-01T00:00:00.000000+00:00"),
    ],
)
def test_timestamps_are_read_in_the_forms_people_write(text: str, same: str) -> None:
    assert temporal.timestamptz_text(temporal.parse_timestamptz(text)) == same


def test_a_timestamp_without_zone_drops_the_offset() -> None:
    assert (
        temporal.timestamp_text(temporal.parse_timestamp("2024-06-01T12:00:00+05:00"))
        == "2024-06-01T12:00:00.000000"
    )


@pytest.mark.parametrize(
    "days", [0, -1, 60, 8797, -730_119, -730_120, -2_451_545, 2_145_031_948, -(2**31), 2**31 - 1]
)
def test_dates_round_trip(days: int) -> None:
    assert temporal.parse_date(temporal.date_text((days,))) == (days,)


@pytest.mark.parametrize("text", ["2023-02-29", "2024-13-01", "yesterday", "2024-00-10", ""])
def test_a_day_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        temporal.parse_date(text)


@pytest.mark.parametrize("text", ["24:00:01", "12:60:00", "noon"])
def test_a_time_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        temporal.parse_time(text)


@pytest.mark.parametrize("text", ["00:00:00", "23:59:59.000001", "24:00:00"])
def test_times_round_trip(text: str) -> None:
    assert temporal.time_text(temporal.parse_time(text)) == text


@pytest.mark.parametrize("text", ["01:02:03+00:00", "01:02:03-08:00", "01:02:03.500000+05:30:15"])
def test_times_with_zone_round_trip(text: str) -> None:
    assert temporal.timetz_text(temporal.parse_timetz(text)) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1 year 2 mons 3 days 04:05:06.5", (14, 3, 14_706_500_000)),
        ("-1 years -2 mons +3 days -04:05:06", (-14, 3, -14_706_000_000)),
        ("P1Y2M3DT4H5M6.5S", (14, 3, 14_706_500_000)),
        ("P-1D", (0, -1, 0)),
        ("PT-0.5S", (0, 0, -500_000)),
        ("90 minutes", (0, 0, 5_400_000_000)),
        ("2 weeks ago", (0, -14, 0)),
        ("1.5 days", (0, 1, 43_200_000_000)),
        ("500 ms", (0, 0, 500_000)),
        ("2 hours 30 minutes", (0, 0, 9_000_000_000)),
        ("infinity", (2**31 - 1, 2**31 - 1, 2**63 - 1)),
    ],
)
def test_intervals_are_read(text: str, parts: tuple[int, int, int]) -> None:
    assert temporal.parse_interval(text) == parts


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((0, 0, 0), "00:00:00"),
        ((14, 3, 14_706_500_000), "1 year 2 mons 3 days 04:05:06.5"),
        ((0, -1, 7_200_000_000), "-1 days +02:00:00"),
        ((-1, 0, -1), "-1 mons -00:00:00.000001"),
        ((0, 0, 360_000_000_000), "100:00:00"),
    ],
)
def test_intervals_are_written_as_postgres_writes_them(parts: tuple[int, int, int], text: str) -> None:
    assert temporal.interval_text(parts) == text
    assert temporal.parse_interval(text) == parts


@pytest.mark.parametrize(
    "text", ["", "P", "1 fortnight", "day", "1 2", "1 day x", "1:2:3:4", "-", "1.2.3 days", "PT1D"]
)
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        temporal.parse_interval(text)
