from datetime import date

import polars as pl

from marketpipe_assets.bars.quotes import crossed, pairs
from marketpipe_assets_tests.bars.minutes import minute_bars


def quote(symbol: str, *closes: float) -> pl.DataFrame:
    return minute_bars(*((f"10:{n:02}", c, c, c, c, 0.0) for n, c in enumerate(closes)), symbol=symbol)


def test_an_instrument_is_a_pair_where_both_sides_are_symbols() -> None:
    assert pairs(["EURUSD.bid", "EURUSD.ask", "USDJPY.bid", "AAPL", "X.ask"]) == ["EURUSD"]


def test_minutes_whose_ask_closes_below_the_bid_are_crossed() -> None:
    bars = pl.concat([quote("EURUSD.bid", 1.3, 1.31, 1.32, 1.33), quote("EURUSD.ask", 1.3, 1.309, 1.33)])

    assert crossed(bars).rows() == [("EURUSD", date(2024, 1, 2), 3, 1)]


def test_one_side_alone_and_other_symbols_cross_nothing() -> None:
    assert crossed(pl.concat([quote("EURUSD.bid", 1.3), quote("AAPL", 1.0)])).is_empty()
