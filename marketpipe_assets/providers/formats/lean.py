"""LEAN's Data folder: a zip per symbol and date, times as milliseconds since local midnight."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import ClassVar, NamedTuple

import polars as pl

from marketpipe_assets.bars.schema import PRICES
from marketpipe_assets.providers.base import BadFile, BadRequest
from marketpipe_assets.providers.formats.archive import zip_members
from marketpipe_assets.providers.formats.local import utc_times
from marketpipe_assets.providers.formats.minutes import check_cadence
from marketpipe_assets.providers.formats.prices import descaled
from marketpipe_assets.providers.formats.reader import (
    DAY_COLUMNS,
    OPTIONAL,
    READ_COLUMNS,
    REQUIRED,
    Reader,
    Settings,
    folder_name,
    local_dates,
)
from marketpipe_assets.providers.formats.text import Text, require_numbers, rows_of


class Source(NamedTuple):
    """Time zone of the dates and times of a source, and the number its prices are multiplied by."""

    timezone: str
    scale: float


SOURCES: Mapping[tuple[str, str], Source] = {
    ("equity", "usa"): Source("America/New_York", 10_000),
    ("equity", "india"): Source("Asia/Kolkata", 10_000),
    ("index", "usa"): Source("America/Chicago", 1),
    ("forex", "fxcm"): Source("Etc/GMT+5", 1),
    ("forex", "oanda"): Source("UTC", 1),
    ("cfd", "oanda"): Source("UTC", 1),
    ("crypto", "*"): Source("UTC", 1),
    ("cryptofuture", "*"): Source("UTC", 1),
    ("future", "*"): Source("UTC", 1),
}
"""Security and market (`*`: all others) → source. FXCM cuts its days at UTC-5 all year."""

_QUOTED_ONLY = ("forex", "cfd")
_CONTRACTS = ("future",)
_BY_KIND = ("crypto", "cryptofuture")
_SIDES = ("bid", "ask")
_DAY_MS = 86_400_000

_TRADE: Mapping[str, pl.DataType] = {
    "ms": pl.Int64(),
    **{name: pl.Float64() for name in (*PRICES, "volume")},
}
_QUOTE: Mapping[str, pl.DataType] = {
    "ms": pl.Int64(),
    **{f"{side}_{name}": pl.Float64() for side in _SIDES for name in (*PRICES, "size")},
}
_DAILY: Mapping[str, pl.DataType] = {
    "stamp": pl.String(),
    **{name: pl.Float64() for name in (*PRICES, "volume")},
}
_SCHEMAS = {"trade": _TRADE, "quote": _QUOTE}

_MEMBER = re.compile(r"(\d{8})_(.+)_minute_(trade|quote)(?:_(\d{6}))?(?:_(?:perp|\d{8}))?\.csv", re.IGNORECASE)
_CONTRACT = re.compile(r"(.+)\.(\d{6})")


class Instrument(NamedTuple):
    """A symbol as LEAN files it: `ES.201312.bid` is the side `bid` of the contract 201312 in the folder `es`."""

    symbol: str
    folder: str
    contract: str | None
    side: str | None

    @property
    def kind(self) -> str:
        return "quote" if self.side else "trade"


class Piece(NamedTuple):
    """One member of one zip, and the symbols it holds."""

    instruments: tuple[Instrument, ...]
    day: date
    text: Text


class Lean(Reader):
    """`<root>/<security>/<market>/minute/<symbol>/<YYYYMMDD>_<trade|quote>.zip`.

    Trades are named by their symbol, quotes `EURUSD.bid` and `EURUSD.ask` (volume 0.0; a row without that side is no
    bar), contracts `ES.201312`.
    """

    takes: ClassVar[Mapping[str, bool]] = {
        "security": REQUIRED,
        "market": REQUIRED,
        "timezone": OPTIONAL,
        "scale": OPTIONAL,
    }

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        known = SOURCES.get((settings.security or "", settings.market or "")) or SOURCES.get(
            (settings.security or "", "*")
        )
        timezone, scale = settings.timezone or (known and known.timezone), settings.scale or (known and known.scale)
        if timezone is None or scale is None:
            pairs = ", ".join("/".join(pair) for pair in SOURCES)
            raise ValueError(
                f"lean knows {pairs}; {settings.security}/{settings.market} needs `timezone` and `scale` to be given"
            )
        self.source = Source(timezone, scale)
        self.folder = (
            settings.root / folder_name(settings.security or "") / folder_name(settings.market or "") / "minute"
        )

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
        days = local_dates(start, end, self.source.timezone)
        instruments = [self._instrument(symbol) for symbol in symbols]
        if len({instrument[1:] for instrument in instruments}) < len(instruments):
            raise BadRequest(f"expected symbols that differ in more than their case, was {', '.join(symbols)}")
        pieces = self._pieces(instruments, days)
        kinds = [
            self._bars_of(kind, [piece for piece in pieces if piece.instruments[0].kind == kind]) for kind in _SCHEMAS
        ]
        return pl.concat(kinds)

    def days(self, symbols: Sequence[str], dates: Sequence[date]) -> pl.DataFrame:  # noqa: ARG002  # one file has all
        """Trades of `<root>/<security>/<market>/daily/<symbol>.zip`, a coin's in `<symbol>_trade.zip`."""
        if self.settings.security in (*_QUOTED_ONLY, *_CONTRACTS):
            raise BadRequest(f"lean: days of {self.settings.security} are not read, only those of single trades")
        held = {symbol: path for symbol in symbols if (path := self._daily(symbol)).exists()}
        if not held:
            return pl.DataFrame(schema=dict(DAY_COLUMNS))
        texts = [self._daily_text(path) for path in held.values()]
        names = [text.name for text in texts]
        rows = rows_of(texts, _DAILY)
        require_numbers(rows, names, (*PRICES, "volume"))
        day = pl.col("stamp").str.to_date("%Y%m%d 00:00", strict=False)
        dated = rows.with_columns(day.alias("session_date"))
        if (wrong := dated.filter(pl.col("session_date").is_null()).head(1)).height:
            file, stamp = wrong.select("file", "stamp").row(0)
            raise BadFile(f"{names[file]}: expected a date such as 20240102 00:00, was {stamp!r}")
        named = dated.with_columns(
            pl.lit(pl.Series(list(held), dtype=pl.String)).gather(pl.col("file")).alias("symbol"),
            trade_count=pl.lit(None, pl.Int64),
            vwap=pl.lit(None, pl.Float64),
        )
        return descaled(named, self.source.scale).select(*DAY_COLUMNS)

    def _daily(self, symbol: str) -> Path:
        ending = "_trade" if self.settings.security in _BY_KIND else ""
        return self.folder.with_name("daily") / f"{folder_name(symbol.lower())}{ending}.zip"

    def _daily_text(self, path: Path) -> Text:
        members = zip_members(path, self.settings.limits)
        if len(members) != 1:
            raise BadFile(f"{path}: expected one member, it has {len(members)}")
        ((name, content),) = members.items()
        return Text(f"{path} ({name})", content)

    def _instrument(self, symbol: str) -> Instrument:
        name, _, suffix = symbol.rpartition(".")
        side = suffix if name and suffix in _SIDES else None
        if side is None:
            name = symbol
        if side is None and self.settings.security in _QUOTED_ONLY:
            raise BadRequest(
                f"{self.settings.security} has quotes only: expected {symbol}.bid or {symbol}.ask, was {symbol}"
            )
        if self.settings.security not in _CONTRACTS:
            return Instrument(symbol, folder_name(name.lower()), None, side)
        contract = _CONTRACT.fullmatch(name)
        if contract is None:
            raise BadRequest(f"a future is named by its contract: expected e.g. {name}.202412, was {symbol}")
        return Instrument(symbol, folder_name(contract[1].lower()), contract[2], side)

    def _pieces(self, instruments: Sequence[Instrument], days: Sequence[date]) -> list[Piece]:
        archives: dict[tuple[str, str], list[Instrument]] = {}
        for instrument in instruments:
            archives.setdefault((instrument.folder, instrument.kind), []).append(instrument)
        return [
            piece
            for (folder, kind), asked in archives.items()
            for day in days
            for piece in self._pieces_of(self.folder / folder / f"{day:%Y%m%d}_{kind}.zip", day, asked)
        ]

    def _pieces_of(self, path: Path, day: date, asked: Sequence[Instrument]) -> list[Piece]:
        if not path.exists():
            return []
        members = self._contracts(path, day, asked[0])
        contracts = dict.fromkeys(instrument.contract for instrument in asked)
        return [
            Piece(tuple(i for i in asked if i.contract == contract), day, members[contract])
            for contract in contracts
            if contract in members
        ]

    def _contracts(self, path: Path, day: date, asked: Instrument) -> Mapping[str | None, Text]:
        contracts: dict[str | None, Text] = {}
        expected = f"{day:%Y%m%d}_{asked.folder}_minute_{asked.kind}"
        for name, content in zip_members(path, self.settings.limits).items():
            match = _MEMBER.fullmatch(name)
            if match is None or f"{match[1]}_{match[2]}_minute_{match[3]}".lower() != expected:
                raise BadFile(f"{path}: expected members named {expected}….csv, one is named {name}")
            contract = match[4] if self.settings.security in _CONTRACTS else None
            if contract in contracts:
                raise BadFile(
                    f"{path}: expected one member for {contract or asked.folder}, there are two, {name} the second"
                )
            contracts[contract] = Text(f"{path} ({name})", content)
        return contracts

    def _bars_of(self, kind: str, pieces: Sequence[Piece]) -> pl.DataFrame:
        if not pieces:
            return pl.DataFrame(schema=dict(READ_COLUMNS))
        names = [piece.text.name for piece in pieces]
        timed = self._timed(rows_of([piece.text for piece in pieces], _SCHEMAS[kind]), pieces, names)
        if kind == "trade":
            require_numbers(timed, names, (*PRICES, "volume"))
            return self._finished(timed, [piece.instruments[0].symbol for piece in pieces], names)
        return pl.concat(self._side(timed, side, pieces, names) for side in _SIDES)

    def _timed(self, rows: pl.DataFrame, pieces: Sequence[Piece], names: Sequence[str]) -> pl.DataFrame:
        midnights = pl.Series([piece.day for piece in pieces]).cast(pl.Datetime("us"))
        wall = pl.lit(midnights).gather(pl.col("file")) + pl.duration(milliseconds="ms")
        local = rows.with_columns(wall.alias("local"), series=pl.col("file"))
        timed = rows.with_columns(utc_times(local, self.source.timezone, names).alias("ts"))
        wrong = timed.filter(~pl.col("ms").is_between(0, _DAY_MS - 1) | pl.col("ts").is_null()).head(1)
        if wrong.height:
            file, ms = wrong.select("file", "ms").row(0)
            raise BadFile(
                f"{names[file]}: expected milliseconds since midnight of a time that exists in "
                f"{self.source.timezone}, below {_DAY_MS}, was {ms}"
            )
        return timed

    def _side(self, rows: pl.DataFrame, side: str, pieces: Sequence[Piece], names: Sequence[str]) -> pl.DataFrame:
        symbols = [next((i.symbol for i in piece.instruments if i.side == side), None) for piece in pieces]
        prices = {name: f"{side}_{name}" for name in PRICES}
        wanted = pl.lit(pl.Series([symbol is not None for symbol in symbols])).gather(pl.col("file"))
        quoted = rows.filter(wanted, ~pl.all_horizontal(pl.col(list(prices.values())).is_null()))
        bars = quoted.select("file", "ts", *(pl.col(theirs).alias(ours) for ours, theirs in prices.items()))
        require_numbers(bars, names, PRICES)
        return self._finished(bars.with_columns(volume=pl.lit(0.0)), symbols, names)

    def _finished(self, bars: pl.DataFrame, symbols: Sequence[str | None], names: Sequence[str]) -> pl.DataFrame:
        named = bars.with_columns(
            pl.lit(pl.Series(symbols, dtype=pl.String)).gather(pl.col("file")).alias("symbol"),
            trade_count=pl.lit(None, pl.Int64),
            vwap=pl.lit(None, pl.Float64),
        )
        check_cadence(named, names)
        return descaled(named, self.source.scale).select(*READ_COLUMNS)
