"""Options that several commands share, and what they select: a configuration, a market, symbols, sessions."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe_assets.cli.display import some, span
from marketpipe_assets.cli.outcome import UserError, Words, file_access, formatter_of, note, speak
from marketpipe_assets.config import Config, Market, load_config

if TYPE_CHECKING:
    from marketpipe_assets.bars.sessions import Sessions

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The marketpipe.yaml to use.",
        show_default="$MARKETPIPE_CONFIG, else ./marketpipe.yaml",
    ),
]


def _market_option(without: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        "--market", "-m", metavar="NAME", help="A market of the configuration.", show_default=without
    )
    return option


MarketOption = Annotated[str | None, _market_option("the one with the symbols, else the first")]
MarketsOption = Annotated[str | None, _market_option("every market")]
WantedMarketsOption = Annotated[str | None, _market_option("the one with the symbols, else every market")]
SymbolsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--symbols", "--symbol", "-s", metavar="A,B", help="May be repeated.", show_default="all symbols of the market"
    ),
]
StartOption = Annotated[str | None, typer.Option(metavar="DATE", help="The first session date, as in 2024-01-02.")]
EndOption = Annotated[str | None, typer.Option(metavar="DATE", help="The date before which to end (exclusive).")]


def configuration(path: Path | None) -> Config:
    """The configuration, with its warnings on stderr. Raises `ConfigError`, and `UserError` for a lake in no folder."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        config = load_config(path)
    speak(formatter_of(config) if config.log.format == "json" else Words(), config.log.level)
    with file_access():
        if file := next((place for place in (config.lake, *config.lake.parents) if place.is_file()), None):
            raise UserError(f"lake: expected a folder, was {config.lake}: {file} is a file")
    for warning in caught:
        note(str(warning.message))
    return config


def is_alone(context: typer.Context) -> bool:
    """Whether no subcommand follows a group. Raises `UserError` where one does, and the group was given options."""
    if context.invoked_subcommand is None:
        return True
    sources = {
        max(each.opts, key=len): context.get_parameter_source(each.name or "") for each in context.command.params
    }
    if given := [option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"]:
        raise UserError(f"expected {', '.join(given)} after {context.invoked_subcommand}, was before it")
    return False


def refuse_beside(what: str, beside: Mapping[str, object]) -> None:
    """Raise `UserError` where other options (name → value) are given, which would say nothing."""
    if given := [name for name, value in beside.items() if value not in (None, False, [])]:
        raise UserError(f"expected {what}, was also {', '.join(given)}")


def listed(symbols: Sequence[str] | None, option: str = "--symbols") -> list[str]:
    """`["A,B", "C"]` → A, B, C, each once; none where the option is not given. Raises `UserError` for an empty one."""
    parts = (part.strip() for value in symbols or () for part in value.split(","))
    found = list(dict.fromkeys(part for part in parts if part))
    if symbols and not found:
        raise UserError(f"{option}: expected symbols, was empty")
    return found


def chosen_markets(config: Config, name: str | None, symbols: Sequence[str] = ()) -> Sequence[Market]:
    """Every market where neither one nor symbols are named, else the one as `chosen_market` gives it."""
    if name is None and not symbols:
        return list(config.markets.values())
    return [chosen_market(config, name, symbols)]


def chosen_market(config: Config, name: str | None, symbols: Sequence[str]) -> Market:
    """The market of this name; without one that with all the symbols, or the first where none are named.

    Raises `UserError` as `market_of` raises `ValueError`.
    """
    from marketpipe_assets.query import market_of

    if name is None and not symbols:
        first, *others = config.markets.values()
        if others:
            note(f"market {first.name}, the first of {len(config.markets)}: --market names another")
        return first
    try:
        return market_of(config, symbols, name)
    except ValueError as error:
        raise UserError(str(error)) from None


def in_order(market: Market, symbols: Sequence[str]) -> Sequence[str]:
    """The symbols in partition order; all of the market's where none are named."""
    return sorted(symbols) if symbols else market.symbols


def retired(market: Market, symbols: Iterable[str]) -> list[str]:
    """Those the configuration no longer names. They have no partitions, but bars that can be read."""
    return [symbol for symbol in symbols if symbol not in market.symbols]


def sessions_of(market: Market) -> "Sessions":
    """The market's sessions. Raises `UserError` where its calendar does not reach back to its start."""
    try:
        return market.sessions
    except ValueError as error:
        raise UserError(f"market {market.name}: {error}") from None


def iso_date(text: str | None, option: str) -> date | None:
    """Raises `UserError` that names the option."""
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise UserError(f"{option}: expected a date such as 2024-01-02, was {text!r}") from None


def asked_span(market: Market, first: date, end: str | None) -> tuple[date, date]:
    """Half-open dates from `first`, or the market's start where that is later, to --end or with today.

    Raises `UserError` for a span that is reversed or ends in the future.
    """
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    last = iso_date(end, "--end") or tomorrow
    if last <= first:
        raise UserError(f"expected an --end after {first} (it is exclusive), was {last}")
    if last > tomorrow:
        raise UserError(f"expected an --end of {tomorrow} at most, was {last}: bars of the future do not exist")
    if first < market.start:
        note(f"{market.name} begins on {market.start}: earlier sessions are left out")
    return max(first, market.start), last


def asked_dates(market: Market, start: str | None, end: str | None) -> Sequence[date]:
    """The market's sessions in the range, over or not; from its start and to today where a bound is not given.

    Raises `UserError` for a range that is reversed, ends in the future, or holds no session.
    """
    first, last = asked_span(market, iso_date(start, "--start") or market.start, end)
    dates = sessions_of(market).between(first, last)
    if not dates:
        raise UserError(
            f"expected a range with sessions of {market.name} ({market.calendar}, from {market.start}), "
            f"was {start or first} to {last}"
        )
    return dates


def selected(market: Market, symbols: Sequence[str], dates: Sequence[date] | None) -> str:
    """What was asked for: `shares`, or `AAPL, MSFT of shares, 2024-01-02 to 2024-01-05`."""
    named = f"{some(symbols)} of {market.name}" if symbols else market.name
    return f"{named}, {span(dates)}" if dates else named


def over(market: Market, dates: Sequence[date]) -> Sequence[date]:
    """Those sessions that can be fetched whole by now."""
    now = datetime.now(UTC)
    sessions = market.sessions
    late = next((n for n, day in enumerate(reversed(dates)) if sessions.published_by(day) <= now), len(dates))
    return dates[: len(dates) - late]
