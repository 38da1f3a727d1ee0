"""The table of providers: name → class, and a provider from its block of the configuration."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from marketpipe_assets.guesses import did_you_mean

if TYPE_CHECKING:
    from marketpipe_assets.providers.base import BarProvider

PROVIDERS: Mapping[str, str] = {
    "synthetic": "marketpipe_assets.providers.synthetic:SyntheticProvider",
    "files": "marketpipe_assets.providers.files:FilesProvider",
    "alpaca": "marketpipe_assets.providers.alpaca:AlpacaProvider",
    "massive": "marketpipe_assets.providers.massive:MassiveProvider",
    "massive_flat": "marketpipe_assets.providers.massive:MassiveFlatProvider",
    "binance": "marketpipe_assets.providers.binance:BinanceProvider",
    "kraken": "marketpipe_assets.providers.kraken:KrakenProvider",
    "databento": "marketpipe_assets.providers.databento:DatabentoProvider",
    "tiingo": "marketpipe_assets.providers.tiingo:TiingoProvider",
    "finnhub": "marketpipe_assets.providers.finnhub:FinnhubProvider",
    "yahoo": "marketpipe_assets.providers.yahoo:YahooProvider",
    "iex": "marketpipe_assets.providers.iex:IexProvider",
}
"""Name → `module:class`. Listing the names imports no provider, and so no Dagster."""

NONE: Mapping[str, str] = MappingProxyType({})

ALIASES: Mapping[str, str] = {"fake": "synthetic", "polygon": "massive"}
"""Earlier names of providers."""

ENTRY_POINTS = "marketpipe.providers"
"""The entry-point group in which other packages name theirs. A name of ours is not replaced by one of theirs."""


def provider_names() -> tuple[str, ...]:
    """Every name a provider block may have as its type, sorted: ours and those of other packages, without aliases."""
    return tuple(sorted({*PROVIDERS, *entry_points(group=ENTRY_POINTS).names}))


def provider_class(kind: str) -> "type[BarProvider]":
    """The class of this name. Raises `ValueError` for an unknown name and for what is no `BarProvider`."""
    from marketpipe_assets.providers.base import BarProvider

    name = ALIASES.get(kind, kind)
    if name in PROVIDERS:
        found = _ours(PROVIDERS[name])  # to look for those of others reads what every installed package says of itself
    elif (theirs := entry_points(group=ENTRY_POINTS)) and name in theirs.names:
        found = _theirs(theirs[name])
    else:
        near = did_you_mean(kind, (*provider_names(), *ALIASES))
        raise ValueError(f"expected a provider of {', '.join(provider_names())}{near}, was {kind!r}")
    if not (isinstance(found, type) and issubclass(found, BarProvider)):
        raise ValueError(  # noqa: TRY004  # the configuration names the wrong thing
            f"expected {name} to be a subclass of BarProvider, was {found!r}"
        )
    return found


def create(
    name: str,
    kind: str,
    options: Mapping[str, object],
    secrets: Mapping[str, str] = NONE,
    places: Mapping[str, str] = NONE,
) -> "BarProvider":
    """The provider of one block of the configuration: its name, its type, its settings, and its secrets by variable.

    A secret that is missing is told when it is needed. Settings may be text as YAML has it; the class's field types
    convert them. Raises `ValueError` that names the block, the option, what was expected and what it was, after the
    place of the option, or of the empty name, where `places` has it.
    """

    def fault(option: str, sentence: str) -> str:
        place = places.get(option.partition(".")[0]) or places.get("")
        what = f"provider {name}: {option}: {sentence}" if option else f"provider {name}: {sentence}"
        return f"{place}: {what}" if place else what

    try:
        provider = provider_class(kind)
    except ValueError as error:
        raise ValueError(fault("", str(error))) from error
    fields = {option: field for option, field in provider.model_fields.items() if option != "name"}
    unknown = sorted(options.keys() - fields.keys())
    if unknown:
        near = did_you_mean(unknown[0], fields)
        raise ValueError(fault(unknown[0], f"expected an option of {', '.join(fields)}{near}"))
    missing = [option for option, field in fields.items() if field.is_required() and option not in options]
    if missing:
        raise ValueError(fault("", f"expected {', '.join(missing)}, was missing"))
    named = {"name": name} if "name" in provider.model_fields else {}
    try:
        created = provider(**named, **options)
    except ValidationError as error:
        raise ValueError("; ".join(fault(*each) for each in _faults(error))) from error
    created.give_secrets(secrets)
    return created


def _ours(place: str) -> object:
    module, name = place.split(":")
    return vars(import_module(module))[name]


def _theirs(point: EntryPoint) -> object:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"expected {point.value} of another package to load, was: {error}") from error


def _faults(error: ValidationError) -> Iterable[tuple[str, str]]:
    """Option, empty where none is at fault, and what is wrong with it."""
    for fault in error.errors(include_url=False):
        option = ".".join(map(str, fault["loc"]))
        sentence = (
            fault["msg"]
            .removeprefix("Value error, ")
            .replace("Input should be a valid", "expected a")
            .replace("Input should be", "expected")
        )
        yield option, sentence if not option or ", was " in sentence else f"{sentence}, was {fault['input']!r}"
