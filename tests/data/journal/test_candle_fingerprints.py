"""Where two fingerprints differ: by month, and by day where the days are known."""

from candlestep.data.journal.candle_fingerprints import Difference, KnownDays, differences
from candlestep.sandbox import parse_time

MIDNIGHT, NOON = parse_time("2025-02-03"), parse_time("2025-02-03T12:00")


def different(
    recorded: dict[str, str], present: dict[str, str], days: KnownDays | None
) -> list[Difference]:
    return [*differences({"BTCUSDT": recorded}, {"BTCUSDT": present}, days)]


def known(recorded: dict[str, str], present: dict[str, str], end: int) -> KnownDays:
    return KnownDays({"BTCUSDT": recorded}, {"BTCUSDT": present}, end)


def test_equal_months_do_not_differ_whatever_their_days() -> None:
    """A whole day may have candles after the end of the session, which it cannot read."""
    months = {"2025-01": "a", "2025-02": "b"}
    assert different(months, months, known({"2025-02-01": "x"}, {}, NOON)) == []


def test_the_days_of_months_that_differ_are_named() -> None:
    days = known(
        {"2025-01-30": "x", "2025-01-31": "x", "2025-02-01": "x"},
        {"2025-01-30": "x", "2025-01-31": "y", "2025-02-02": "x"},
        MIDNIGHT,
    )
    january, february = {"2025-01": "a", "2025-02": "b"}, {"2025-01": "c", "2025-02": "b"}
    assert different(january, february, None) == [Difference("BTCUSDT", ("2025-01",))]
    assert different(january, february, days) == [
        Difference("BTCUSDT", ("2025-01",), ("2025-01-31",))
    ]
    both = {"2025-01": "c", "2025-02": "d"}
    assert different(january, both, days) == [
        Difference("BTCUSDT", ("2025-01", "2025-02"), ("2025-01-31", "2025-02-01", "2025-02-02"))
    ]


def test_the_day_that_a_session_ends_in_is_told_from_the_others() -> None:
    same = {"2025-02-01": "x", "2025-02-02": "x"}
    recorded, present = {"2025-02": "a"}, {"2025-02": "b"}
    assert different(recorded, present, known(same, same, NOON))[0].days == ("2025-02-03",)
    assert different(recorded, present, known(same, same, MIDNIGHT))[0].days == ()
