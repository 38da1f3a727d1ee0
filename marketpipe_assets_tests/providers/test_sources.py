from collections.abc import Sequence
from datetime import date, datetime

import polars as pl
import pytest
from pydantic import PrivateAttr

from marketpipe_assets.bars.schema import VENDOR_COLUMNS, conform
from marketpipe_assets.bars.sessions import Sessions
from marketpipe_assets.providers.base import (
    AuthFailed,
    BarProvider,
    NotEntitled,
    OutOfRange,
    ProviderError,
    RateLimited,
    Transient,
)
from marketpipe_assets.providers.sources import ask

SESSIONS = Sessions("XNYS", date(2024, 1, 2), date(2024, 2, 1))
TUESDAY, WEDNESDAY = date(2024, 1, 2), date(2024, 1, 3)


class Vendor(BarProvider):
    """Answers what a test gave it, for the symbols and the range asked, or fails."""

    name: str
    _bars: pl.DataFrame = PrivateAttr()
    _failure: ProviderError | None = PrivateAttr(default=None)
    _asked: list[tuple[tuple[str, ...], date]] = PrivateAttr(default_factory=list)

    def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        self._asked.append((tuple(symbols), start.date()))
        if self._failure is not None:
            raise self._failure
        asked = pl.col("symbol").is_in(list(symbols)) & pl.col("ts").is_between(start, end, closed="left")
        return self._bars.filter(asked)


def vendor(name: str, *bars: tuple[str, str], failure: ProviderError | None = None) -> Vendor:
    """A vendor with one bar for each symbol and UTC time given."""
    made = Vendor(name=name)
    made._failure = failure
    rows = [(symbol, datetime.fromisoformat(f"{time}+00:00")) for symbol, time in bars]
    made._bars = conform(
        pl.DataFrame(rows, schema={"symbol": pl.String(), "ts": VENDOR_COLUMNS["ts"]}, orient="row").with_columns(
            *(pl.lit(1.0).alias(column) for column in ("open", "high", "low", "close", "volume")),
            pl.lit(name).alias("provider"),
            pl.lit("").alias("feed"),
        ),
        VENDOR_COLUMNS,
    )
    return made


def given(answered: pl.DataFrame) -> list[tuple[object, ...]]:
    return answered.select("symbol", "session_date", pl.col("provider").cast(pl.String)).rows()


def test_second_provider_is_not_asked_where_the_first_has_every_symbol_day() -> None:
    first, second = vendor("first", ("ACME", "2024-01-02 15:00")), vendor("second", ("ACME", "2024-01-02 15:00"))

    answered = ask({"first": first, "second": second}, SESSIONS, ["ACME"], [TUESDAY])

    assert given(answered.bars) == [("ACME", TUESDAY, "first")]
    assert second._asked == []


def test_second_provider_gives_whole_symbol_days_that_the_first_has_nothing_of() -> None:
    first = vendor("first", ("ACME", "2024-01-02 15:00"), ("BOLT", "2024-01-03 15:00"))
    second = vendor(
        "second",
        *(("ACME", f"2024-01-0{day} 15:0{minute}") for day in (2, 3) for minute in (0, 1)),
        *(("BOLT", f"2024-01-0{day} 15:00") for day in (2, 3)),
    )

    answered = ask({"first": first, "second": second}, SESSIONS, ["ACME", "BOLT"], [TUESDAY, WEDNESDAY])

    assert given(answered.bars) == [
        ("ACME", TUESDAY, "first"),
        ("ACME", WEDNESDAY, "second"),
        ("ACME", WEDNESDAY, "second"),
        ("BOLT", TUESDAY, "second"),
        ("BOLT", WEDNESDAY, "first"),
    ]


def test_second_provider_answers_where_the_first_fails() -> None:
    first, second = vendor("first", failure=Transient("down")), vendor("second", ("ACME", "2024-01-02 15:00"))

    answered = ask({"first": first, "second": second}, SESSIONS, ["ACME"], [TUESDAY])

    assert given(answered.bars) == [("ACME", TUESDAY, "second")]
    assert answered.said["first"] == "Transient: down"


def test_symbol_day_without_a_bar_is_not_taken_for_empty_while_a_provider_is_down() -> None:
    first, second = vendor("first", failure=RateLimited("quota")), vendor("second", ("ACME", "2024-01-02 15:00"))

    with pytest.raises(RateLimited, match="quota"):
        ask({"first": first, "second": second}, SESSIONS, ["ACME", "BOLT"], [TUESDAY])


def test_what_is_left_of_a_symbol_day_is_kept_where_no_other_provider_has_it() -> None:
    left = vendor("first", ("ACME", "2024-01-02 20:59"), ("BOLT", "2024-01-02 20:59"))._bars
    first = vendor("first", failure=OutOfRange("too early", part=left))
    second = vendor("second", ("BOLT", "2024-01-02 15:00"), ("BOLT", "2024-01-02 15:01"))

    answered = ask({"first": first, "second": second}, SESSIONS, ["ACME", "BOLT"], [TUESDAY])

    assert given(answered.bars) == [("ACME", TUESDAY, "first"), *[("BOLT", TUESDAY, "second")] * 2]
    assert answered.said["first"] == "OutOfRange: too early; 1 bars that it still has are kept"


def test_a_session_of_which_nothing_is_left_fails_with_those_of_which_something_is() -> None:
    left = vendor("first", ("ACME", "2024-01-03 20:59"))._bars

    with pytest.raises(OutOfRange, match="too early"):
        ask(
            {"first": vendor("first", failure=OutOfRange("too early", part=left))},
            SESSIONS,
            ["ACME"],
            [TUESDAY, WEDNESDAY],
        )


@pytest.mark.parametrize("failure", [AuthFailed("key"), NotEntitled("plan")])
def test_failure_that_someone_must_mend_is_not_hidden_by_another_provider(failure: ProviderError) -> None:
    first, second = vendor("first", failure=failure), vendor("second", ("ACME", "2024-01-02 15:00"))

    with pytest.raises(type(failure)):
        ask({"first": first, "second": second}, SESSIONS, ["ACME"], [TUESDAY])
    assert second._asked == []


def test_symbol_no_provider_knows_is_an_empty_answer() -> None:
    answered = ask({"first": vendor("first"), "second": vendor("second")}, SESSIONS, ["ACME"], [TUESDAY])

    assert answered.bars.is_empty()
    assert answered.said == {"first": "0 bars for 1 symbol-days", "second": "0 bars for 1 symbol-days"}


def test_bars_of_a_symbol_that_was_not_asked_for_are_refused() -> None:
    first = vendor("first", ("ACME", "2024-01-02 15:00"))
    first._bars = first._bars.with_columns(pl.lit("ACME").alias("symbol"))

    class Careless(Vendor):
        def minute_bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
            return first._bars

    with pytest.raises(ProviderError, match="expected bars of BOLT, was also ACME"):
        ask({"careless": Careless(name="careless")}, SESSIONS, ["BOLT"], [TUESDAY])


def test_bars_beyond_the_hours_asked_for_are_counted_and_not_kept() -> None:
    first = vendor("first", ("ACME", "2024-01-02 15:00"), ("ACME", "2024-01-02 23:00"), ("ACME", "2024-01-03 15:00"))

    answered = ask({"first": first}, SESSIONS, ["ACME"], [TUESDAY, WEDNESDAY])

    assert answered.bars.height == 2
    assert answered.said["first"].endswith("; 1 bars outside the hours asked for were not kept")


def test_bars_of_a_closed_day_come_from_the_provider_of_the_session_after_it() -> None:
    first = vendor("first", ("ACME", "2024-01-06 15:00"), ("ACME", "2024-01-08 15:00"))
    second = vendor("second", ("ACME", "2024-01-06 15:00"), ("ACME", "2024-01-09 15:00"))

    answered = ask({"first": first, "second": second}, SESSIONS, ["ACME"], [date(2024, 1, 8), date(2024, 1, 9)])

    assert given(answered.bars) == [
        ("ACME", date(2024, 1, 6), "first"),
        ("ACME", date(2024, 1, 8), "first"),
        ("ACME", date(2024, 1, 9), "second"),
    ]
