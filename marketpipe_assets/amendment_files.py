"""Read waivers.yml and repairs.yml: each entry checked against the markets, each error with its line."""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import JsonValue

from marketpipe_assets.bars.amendments import MAY_BE_NULL, REPAIRABLE, Repair, Waiver
from marketpipe_assets.marked_yaml import MarkedDocument, Place, read_marked

T = TypeVar("T")

WAIVER_KEYS = ("market", "symbol", "first", "last", "rule", "reason", "author", "expires")
REPAIR_KEYS = ("market", "symbol", "ts", "set", "reason", "author")

MOST, MOST_TRADES = sys.float_info.max, 2**63 - 1
"""What a column of floats and one of 64-bit integers can hold."""


class Scope(NamedTuple):
    """What a market lets be amended: its symbols, and the rules that may be waived or are refused, with the reason."""

    symbols: Collection[str]
    waivable: Collection[str]
    refused: Mapping[str, str]


def waivers_of(
    path: Path, variables: Mapping[str, str], markets: Mapping[str, Scope]
) -> Mapping[str, tuple[Waiver, ...]]:
    """Market → the waivers of its bars; none where there is no file. Raises `ConfigError`.

    An entry without `market` is for every market that has the symbol, without `last` for one session.
    """
    found: dict[str, list[Waiver]] = {}
    for entry in _entries(path, variables, WAIVER_KEYS):
        first = entry.date("first")
        last = entry.date("last") if entry.has("last") else first
        if last < first:
            raise entry.error("last", f"expected a session on or after {first}, was {last}")
        names = entry.markets(markets)
        waiver = Waiver(
            entry.text("symbol"),
            first,
            last,
            _rule(entry, names, markets),
            entry.text("reason"),
            entry.text("author"),
            entry.date("expires"),
            entry.place,
        )
        for name in names:
            found.setdefault(name, []).append(waiver)
    return {name: tuple(waivers) for name, waivers in found.items()}


def repairs_of(
    path: Path, variables: Mapping[str, str], markets: Mapping[str, Scope]
) -> Mapping[str, tuple[Repair, ...]]:
    """Market → the repairs of its bars; none where there is no file. Raises `ConfigError`; a bar is named once."""
    found: dict[str, dict[tuple[str, datetime], Repair]] = {}
    for entry in _entries(path, variables, REPAIR_KEYS):
        repair = Repair(
            entry.text("symbol"),
            entry.instant("ts"),
            _values(entry),
            entry.text("reason"),
            entry.text("author"),
            entry.place,
        )
        for name in entry.markets(markets):
            bars = found.setdefault(name, {})
            if earlier := bars.get((repair.symbol, repair.ts)):
                raise entry.error("ts", f"expected one repair for each bar, was another one at {earlier.place}")
            bars[repair.symbol, repair.ts] = repair
    return {name: tuple(bars.values()) for name, bars in found.items()}


class _Entry(NamedTuple):
    file: MarkedDocument
    number: int
    values: Mapping[str, JsonValue]

    @property
    def place(self) -> str:
        return f"{self.file.path.name}:{self.file.written[(self.number,)].line}"

    def error(self, key: str | Place, message: str) -> Exception:
        return self.file.error((self.number, *((key,) if isinstance(key, str) else key)), message)

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def was(self, *key: str) -> str:
        return self.file.was((self.number, *key))

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"expected text, was {self.was(key)}")
        return value

    def date(self, key: str) -> date:
        return self._parsed(key, r"\d{4}-\d{2}-\d{2}", date.fromisoformat, "a date such as 2024-01-02")

    def instant(self, key: str) -> datetime:
        written = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?Z"
        found = self._parsed(key, written, datetime.fromisoformat, "a time in UTC such as 2024-01-02T14:30Z")
        return found.astimezone(UTC)

    def markets(self, markets: Mapping[str, Scope]) -> list[str]:
        symbol = self.text("symbol")
        if self.has("market"):
            name = self.text("market")
            if name not in markets:
                raise self.error("market", f"expected a market of {', '.join(markets)}, was {name!r}")
            names = [name] if symbol in markets[name].symbols else []
        else:
            names = [name for name, market in markets.items() if symbol in market.symbols]
        if not names:
            where = self.values.get("market") or "a market"
            raise self.error("symbol", f"expected a symbol of {where}, was {symbol!r}")
        return names

    def _parsed(self, key: str, written: str, parse: Callable[[str], T], expected: str) -> T:
        value = self.values.get(key)
        try:
            if isinstance(value, str) and re.fullmatch(written, value):
                return parse(value)
        except ValueError:
            pass
        raise self.error(key, f"expected {expected}, was {self.was(key)}")


def _entries(path: Path, variables: Mapping[str, str], keys: Collection[str]) -> list[_Entry]:
    if not path.exists():
        return []
    file = read_marked(path, variables, lambda key, _: key.replace("-", "_"))
    if not file.document:
        return []
    if not isinstance(file.document, list):
        raise file.error((), "expected a list, an entry for each `- `")
    return [_entry(file, number, values, keys) for number, values in enumerate(file.document)]


def _entry(file: MarkedDocument, number: int, values: JsonValue, keys: Collection[str]) -> _Entry:
    if not isinstance(values, dict):
        raise file.error((number,), f"expected a mapping with {', '.join(keys)}, was {file.was((number,))}")
    for key in values:
        if key not in keys:
            raise file.error((number, key), f"unknown key; expected one of {', '.join(keys)}")
    return _Entry(file, number, values)


def _rule(entry: _Entry, names: Collection[str], markets: Mapping[str, Scope]) -> str:
    rule = entry.text("rule")
    for name in names:
        market = markets[name]
        if rule in market.refused:
            raise entry.error("rule", f"expected a rule that can be waived, was {rule}: {market.refused[rule]}")
        if rule not in market.waivable:
            raise entry.error("rule", f"expected a rule of {', '.join(market.waivable)}, was {rule!r}")
    return rule


def _values(entry: _Entry) -> Mapping[str, float | None]:
    values = entry.values.get("set")
    if not isinstance(values, dict) or not values:
        raise entry.error("set", f"expected columns and their values, was {entry.was('set')}")
    return {column: _value(entry, column, value) for column, value in values.items()}


def _value(entry: _Entry, column: str, value: JsonValue) -> float | None:
    if column not in REPAIRABLE:
        raise entry.error(("set", column), f"unknown column; expected one of {', '.join(REPAIRABLE)}")
    if value is None and column in MAY_BE_NULL:
        return None
    whole = column == "trade_count"
    written = r"-?\d+" if whole else r"-?\d+(\.\d+)?([eE][+-]?\d+)?"
    if not isinstance(value, str) or not re.fullmatch(written, value):
        kind = "a whole number" if whole else "a number"
        raise entry.error(("set", column), f"expected {kind}, was {entry.was('set', column)}")
    number = int(value) if whole else float(value)
    if abs(number) > (MOST_TRADES if whole else MOST):
        raise entry.error(("set", column), f"expected a number that the column can hold, was {value!r}")
    return number
