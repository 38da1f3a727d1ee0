"""Bars as they stood before a restatement are the bars that were stored before it, byte for byte."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe_assets.as_of import bars_as_of
from marketpipe_assets.catalog.restatements import restatements_of
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.catalog.tables import restatements
from marketpipe_assets.config import Market
from marketpipe_assets.defs.partitions import Selection
from marketpipe_assets.defs.retired import rebuild_tables
from marketpipe_assets.lake.facts import Fetch, fetches_of
from marketpipe_assets.lake.merge import write_bars
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.query import connect, load_bars, load_table, select
from marketpipe_assets_tests.cli.command import marketpipe
from marketpipe_assets_tests.defs.location import MARKET, Location, regular_minutes
from marketpipe_assets_tests.lake.rows import bars_of

DAYS = ("2024-01-02", "2024-01-03", "2024-01-08")
TABLES = ("raw_bars_1m", "bars_1m", "quarantined_bars_1m", "bars_5m", "bars_1h", "bars_1d")
RANGE = "2024-01-02|ACME...2024-01-08|BOLT"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def vendor_bars(*shifts: float) -> pl.DataFrame:
    """Minutes of each day with fractional volumes, some broken, some out of order, and one on a Saturday."""
    days = []
    for day, shift in zip(DAYS, shifts, strict=True):
        minutes = regular_minutes(day, 120)
        number = pl.int_range(pl.len())
        close = 10 + shift + number * 0.01
        bars = minutes.with_columns(
            close.alias("close"),
            pl.when(number % 50 == 7).then(-1.0).otherwise(number / 7).alias("volume"),
            (close + 1).alias("high"),
        )
        days.append(pl.concat([bars[:60], bars[61:], bars[60:61], bars[30:31]]))
    return pl.concat([*days, regular_minutes("2024-01-06", 1, 10.0 + shifts[-1])])


def as_bytes(bars: pl.DataFrame) -> bytes:
    """The columns, their types and every value; two floats are written alike only where their bits are."""
    return repr((bars.schema, bars.rows())).encode()


@pytest.fixture
def location(tmp_path: Path) -> Location:
    location = Location(tmp_path)
    longer = location.config.markets[MARKET].model_copy(update={"timeframes": ("5m", "1h", "1d")})
    location.config = location.config.model_copy(update={"markets": {MARKET: longer}})
    location.give("BOLT", vendor_bars(5, 5, 5))
    return location


def tables(location: Location, as_of: datetime | None = None) -> dict[str, bytes]:
    return {
        table: as_bytes(load_table(table, ["BOLT", "ACME"], as_of=as_of, config=location.config)) for table in TABLES
    }


def test_every_table_is_what_it_was_before_each_restatement(location: Location) -> None:
    stood = []
    for shifts in ((0, 0, 0), (0, 1, 0), (2, 1, 3)):
        location.give("ACME", vendor_bars(*shifts))
        assert location.run(RANGE).success
        stood.append((datetime.now(UTC), tables(location)))

    for moment, held in stood:
        assert tables(location, moment) == held
    assert len({held["raw_bars_1m"] for _, held in stood}) == 3
    assert len({held["bars_1d"] for _, held in stood}) == 3


def test_the_instant_of_a_fetch_is_the_first_at_which_its_bars_stand(location: Location) -> None:
    location.give("ACME", vendor_bars(0, 0, 0))
    location.run(RANGE)
    location.give("ACME", vendor_bars(0, 1, 0))
    location.run(RANGE)
    facts = fetches_of(location.config.lake, MARKET, ["ACME"], location.config.markets[MARKET].sessions.dates)
    first, second = facts["fetched_at"].unique().sort()

    def close(as_of: datetime) -> list[float]:
        found = load_bars("ACME", "1d", "2024-01-03", "2024-01-04", as_of=as_of, config=location.config)
        return [round(price, 2) for price in found["close"].to_list()]

    just = timedelta(microseconds=1)
    assert [close(at) for at in (first - just, first, second - just, second)] == [[], [11.19], [11.19], [12.19]]


def test_the_command_line_prints_what_stood(location: Location) -> None:
    location.give("ACME", vendor_bars(0, 0, 0))
    location.run(RANGE)
    moment = datetime.now(UTC)
    location.give("ACME", vendor_bars(1, 1, 1))
    location.run(RANGE)

    def closes(*args: str) -> list[float]:
        asked = ("bars", "ACME", "-f", "json", "--start", "2024-01-03", "--end", "2024-01-04", "--config")
        printed = marketpipe(*asked, location.config.path, *args)
        return [round(row["close"], 2) for row in json.loads(printed.stdout)["results"]]

    assert closes() == [12.19]
    assert closes("--as-of", moment.isoformat()) == [11.19]
    assert marketpipe("bars", "ACME", "--as-of", "2024-01-05", "--config", location.config.path).exit_code == 2


def test_weeks_are_computed_from_the_days_that_stood(location: Location) -> None:
    location.give("ACME", vendor_bars(0, 0, 0))
    location.run(RANGE)
    moment, weeks = datetime.now(UTC), load_bars("ACME", "1w", config=location.config)
    location.give("ACME", vendor_bars(1, 1, 1))
    location.run(RANGE)

    assert load_bars("ACME", "1w", as_of=moment, config=location.config).equals(weeks)
    assert not load_bars("ACME", "1w", config=location.config).equals(weeks)


def test_what_was_superseded_is_a_view_a_line_of_status_and_a_verified_table(location: Location) -> None:
    location.run(RANGE)
    location.give("BOLT", vendor_bars(5, 6, 5))
    location.run(RANGE)

    rows = select(connect(location.config), "SELECT symbol, count(*) AS bars FROM superseded_bars_1m GROUP BY symbol")
    status = marketpipe("status", "--json", "--config", location.config.path)
    verified = marketpipe("lake", "verify", "--config", location.config.path)

    held = json.loads(status.stdout)["markets"][MARKET]["tables"]["superseded_bars_1m"]
    assert rows.rows() == [("BOLT", 121)]
    assert (held["bars"], held["first"], held["last"]) == (121, "2024-01-03", "2024-01-03")
    assert verified.exit_code == 0
    assert "no file of the lake" not in verified.stderr


def test_rebuilt_catalogue_tells_what_was_restated(location: Location) -> None:
    location.run(RANGE)
    location.give("BOLT", vendor_bars(5, 6, 5))
    location.run(RANGE)
    told = restatements_of(Catalog(location.config.catalog_url), MARKET)
    with Catalog(location.config.catalog_url).begin() as connection:
        connection.execute(restatements.delete())

    assert marketpipe("coverage", "rebuild", "--config", location.config.path).exit_code == 0

    assert told.height == 1
    assert restatements_of(Catalog(location.config.catalog_url), MARKET).equals(told)


def test_nothing_stood_before_the_first_fetch(location: Location) -> None:
    location.run(RANGE)

    found = load_bars(["BOLT", "ACME"], as_of=LONG_AGO, config=location.config)

    assert found.is_empty()
    assert found.schema == load_bars("BOLT", config=location.config).schema


def test_a_range_and_a_session_are_chosen_as_ever(location: Location) -> None:
    location.run(RANGE)
    start, end = datetime(2024, 1, 3, 14, 32, tzinfo=UTC), "2024-01-03T14:40:00Z"

    found = load_bars("BOLT", "1m", start, end, session="regular", as_of=datetime.now(UTC), config=location.config)

    assert found.equals(load_bars("BOLT", "1m", start, end, session="regular", config=location.config))
    assert found.height == 7


def test_symbols_beyond_what_a_run_may_hold_are_read_some_at_a_time(location: Location) -> None:
    location.give("ACME", vendor_bars(0, 0, 0))
    location.run(RANGE)
    small = location.config.markets[MARKET].model_copy(update={"max_symbol_days_per_run": 1})
    config = location.config.model_copy(update={"markets": {MARKET: small}})

    found = load_bars(["BOLT", "ACME"], "5m", as_of=datetime.now(UTC), config=config)

    assert found.equals(load_bars(["BOLT", "ACME"], "5m", config=config))


@pytest.mark.parametrize("moment", ["2024-01-05", "2024-01-05T10:00:00"])
def test_an_instant_needs_its_zone(location: Location, moment: str) -> None:
    with pytest.raises(ValueError, match="with its zone"):
        load_bars("ACME", as_of=moment, config=location.config)


def test_other_adjustments_are_refused(location: Location) -> None:
    with pytest.raises(ValueError, match="expected adjustment 'raw', the only one there is, was 'split'"):
        load_bars("ACME", adjustment="split", config=location.config)  # type: ignore[arg-type]  # what is refused


def test_a_table_the_market_lacks_is_refused(location: Location) -> None:
    with pytest.raises(ValueError, match=r"expected a table of raw_bars_1m, .*superseded_bars_1m, was 'bars_2m'"):
        load_table("bars_2m", "ACME", config=location.config)
    with pytest.raises(ValueError, match="was 'superseded_bars_1m'"):
        load_table("superseded_bars_1m", "ACME", as_of=LONG_AGO, config=location.config)


SESSIONS = [date(2024, 1, 2), date(2024, 1, 3)]
BARS = st.tuples(st.integers(0, 9), st.sampled_from([10.0, 10.1, 30.0]), st.sampled_from([-1.0, 0.3, 7.0]))
ANSWERS = st.lists(
    st.dictionaries(st.sampled_from(SESSIONS), st.lists(BARS, max_size=8), min_size=1), min_size=1, max_size=4
)


def answered(day: date, bars: list[tuple[int, float, float]]) -> pl.DataFrame:
    """Minutes as they arrived, of a symbol whose day may have copies, conflicts and broken bars."""
    minutes = bars_of("ACME", day, [1.0] * 10, table="raw_bars_1m")
    prices, volumes = (pl.Series([bar[n] for bar in bars], dtype=pl.Float64) for n in (1, 2))
    priced = dict.fromkeys(("open", "high", "low", "close"), prices)
    return minutes[[bar[0] for bar in bars]].with_columns(
        *(values.alias(name) for name, values in priced.items()), volumes.alias("volume")
    )


@settings(max_examples=20)
@given(ANSWERS)
def test_whatever_a_provider_answers_every_table_can_be_read_as_it_stood(
    tmp_path_factory: pytest.TempPathFactory, answers: list[dict[date, list[tuple[int, float, float]]]]
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    lake, catalog = folder / "lake", Catalog(f"sqlite:///{folder}/catalog.sqlite")
    market = Market.model_validate(MARKET_OF_ONE)
    first, stood = datetime(2024, 2, 1, tzinfo=UTC), []

    for hours, answer in enumerate(answers):
        raw = pl.concat([answered(day, answer[day]) for day in sorted(answer)])
        fetch = Fetch(first + timedelta(hours=hours), "run", sorted(answer))
        write_bars(lake, "shares", "raw_bars_1m", raw, ["ACME"], sorted(answer), fetch)
        rebuild_tables(catalog, lake, market, Selection(["ACME"], SESSIONS))
        stood.append({table: as_bytes(read_bars(lake, "shares", table, ["ACME"], SESSIONS)) for table in TABLES})

    for hours, held in enumerate(stood):
        moment = first + timedelta(hours=hours, minutes=59)
        again = {table: bars_as_of(lake, market, table, ["ACME"], SESSIONS, moment) for table in TABLES}
        assert {table: as_bytes(bars) for table, bars in again.items()} == held


MARKET_OF_ONE = {
    "name": "shares",
    "calendar": "XNYS",
    "asset_class": "equity",
    "provider": "given",
    "symbols": ("ACME",),
    "start": date(2024, 1, 2),
    "timeframes": ("5m", "1h", "1d"),
}
