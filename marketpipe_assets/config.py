"""marketpipe.yaml and the environment as frozen models. Nothing else but `event_storage`, which Dagster
loads, reads the environment.
"""

import keyword
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from marketpipe_assets.amendment_files import Scope, repairs_of, waivers_of
from marketpipe_assets.bars.amendments import Amendments, expired, standing
from marketpipe_assets.guesses import did_you_mean
from marketpipe_assets.marked_yaml import ConfigError, MarkedDocument, Place, read_marked
from marketpipe_assets.upkeep import (
    MINUTE_LABEL,
    MINUTES_KEPT,
    Age,
    Alerts,
    Clock,
    Day,
    Email,
    Hold,
    Schedules,
    check_order,
    kept_for,
)

if TYPE_CHECKING:
    from marketpipe_assets.bars.reasons import Evidence
    from marketpipe_assets.bars.rules import RuleSet  # imports polars, so not on import
    from marketpipe_assets.bars.sessions import Sessions

__all__ = [
    "Config",
    "ConfigError",
    "Log",
    "Market",
    "Partition",
    "ProviderSettings",
    "RuleSetting",
    "dagster_home",
    "environment",
    "export_dagster_home",
    "load_config",
    "secrets_of_environment",
]

CONFIG_VERSION = 1
OLDEST_VERSION = 1

PACKAGED = Path(__file__).with_name("default.yaml")
INSTANCE = Path(__file__).with_name("dagster.yaml")

RESERVED_NAMES = frozenset({"information_schema", "main", "memory", "pg_catalog", "system", "temp"})
RESOURCE_NAMES = frozenset({"lake", "catalog", "io_manager", "reports"})  # beside which providers stand in Dagster
SECRET = re.compile(r"(^|[_-])(api[_-]?key|key|secret|token|password|passphrase|credentials?)([_-]|$)", re.IGNORECASE)

LEGACY_VARIABLES: Mapping[str, str] = {
    **dict.fromkeys(("MARKETPIPE_RAW_ROOT", "MARKETPIPE_AGG_ROOT", "MP_DATA_DIR"), "set `lake:` in marketpipe.yaml"),
    **dict.fromkeys(
        ("MARKETPIPE_DB_PATH", "MARKETPIPE_INGESTION_DB_PATH", "MP_DB"),
        "runs are kept below DAGSTER_HOME",
    ),
    **dict.fromkeys(
        (
            "MARKETPIPE_METRICS_DB_PATH",
            "METRICS_DB_PATH",
            "METRICS_MAX_CONNECTIONS",
            "METRICS_MAX_HEADER_SIZE",
            "MP_DISABLE_SQLITE_METRICS",
            "PROMETHEUS_MULTIPROC_DIR",
        ),
        "what runs committed is counted in the catalogue: marketpipe metrics shows and serves it",
    ),
    **dict.fromkeys(
        ("IEX_TOKEN", "MP_IEX_SECRET_TOKEN", "MP_IEX_PUB_TOKEN"),
        "IEX Cloud is closed; use the provider alpaca with `feed: iex`",
    ),
}
"""Variables of the earlier systems that no longer do anything → what to use instead."""


def _instant(value: object) -> object:
    if isinstance(value, str):
        moment = datetime.fromisoformat(value) if re.fullmatch(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*", value) else None
        if moment is None or moment.tzinfo is None:
            raise ValueError("expected an instant with its zone such as 2024-01-02T09:30-05:00")
        return moment
    return value


def _in_order(hours: tuple[time, time]) -> tuple[time, time]:
    if hours[0] >= hours[1]:
        raise ValueError("expected two times with the earlier one first")
    return hours


def _name(value: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9_]*", value) is None or keyword.iskeyword(value):
        raise ValueError("expected a name of lower-case letters, digits and _ that begins with a letter")
    if value in RESERVED_NAMES | RESOURCE_NAMES:
        reserved = ", ".join(sorted(RESERVED_NAMES | RESOURCE_NAMES))
        raise ValueError(f"expected a name that neither SQL nor Dagster's resources have ({reserved})")
    return value


def _calendar(value: str) -> str:
    from marketpipe_assets.bars.calendars import calendar_names, is_calendar  # takes a second, so not on import

    if not is_calendar(value):
        raise ValueError(f"expected a calendar such as XNYS, XLON or 24/7{did_you_mean(value, calendar_names())}")
    return value


def _symbol(value: str) -> str:
    from marketpipe_assets.lake.layout import check_symbol  # imports polars, so not on import

    return check_symbol(value)


def _timeframe(value: str) -> str:
    from marketpipe_assets.bars.timeframes import COMPUTED_ON_READING, TIMEFRAMES

    if value in COMPUTED_ON_READING:
        raise ValueError(f"expected a stored timeframe: {value} is computed on reading, from 1d")
    if value not in TIMEFRAMES or value == "1m":
        stored = ", ".join(label for label in TIMEFRAMES if label != "1m")
        raise ValueError(f"expected a timeframe of {stored} (1m is always there)")
    return value


def _shortest_first(labels: tuple[str, ...]) -> tuple[str, ...]:
    from marketpipe_assets.bars.timeframes import TIMEFRAMES

    return tuple(label for label in TIMEFRAMES if label in labels)


def _asset_class(value: str) -> str:
    from marketpipe_assets.bars.rules import LIMITS

    if value not in LIMITS:
        raise ValueError(f"expected an asset class of {', '.join(LIMITS)}{did_you_mean(value, LIMITS)}")
    return value


def _rule(value: str) -> str:
    from marketpipe_assets.bars.rules import RULES

    if value not in RULES:
        raise ValueError(f"expected a rule of {', '.join(RULES)}{did_you_mean(value, RULES)}")
    return value


def _day_field(value: str) -> str:
    from marketpipe_assets.bars.tie_out import FIELDS

    if value not in FIELDS:
        raise ValueError(f"expected a field of {', '.join(FIELDS)}{did_you_mean(value, FIELDS)}")
    return value


def _named_provider(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


def _sorted(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [symbol for symbol, count in sorted(Counter(values).items()) if count > 1]:
        raise ValueError(f"expected each symbol once, was {', '.join(twice)} several times")
    return tuple(sorted(values))


def _past(value: date) -> date:
    if value > datetime.now(UTC).date():
        raise ValueError("expected a date that is not in the future")
    return value


def _owner(value: str) -> str:
    if re.fullmatch(r"team:\w+|[^@\s]+@[^@\s]+\.[^@\s]+", value) is None:
        raise ValueError("expected an e-mail address or team:name")
    return value


def _folder(value: object) -> object:
    if value == "":
        raise ValueError("expected a folder")
    if isinstance(value, str) and "://" in value:
        raise ValueError("expected a folder; s3:// and other stores are refused until they are built")
    return value


Name = Annotated[str, AfterValidator(_name)]
Symbol = Annotated[str, AfterValidator(_symbol)]
Timeframe = Annotated[str, AfterValidator(_timeframe)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Hours = Annotated[float, Field(ge=0, le=240, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProviderSettings(_Settings):
    """A provider block: which provider, and what that provider's own model will convert (text, lists, mappings).

    `places`: option → file and line it is written in; the empty name has those of the block.
    """

    type: str
    options: Mapping[str, JsonValue] = {}
    places: SkipJsonSchema[Mapping[str, str]] = Field(default={}, exclude=True, repr=False)


class Halt(_Settings):
    """A span in which trading stood still, known to the user; without symbols it was the whole market."""

    start: Instant
    end: Instant
    symbols: tuple[Symbol, ...] | None = None

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> "Halt":
        check_order(self.start, self.end)
        return self


class Listing(_Settings):
    """The first session of a symbol, and the one from which it was no longer traded."""

    first: Day | None = None
    end: Day | None = None

    @model_validator(mode="after")
    def _ends_after_its_first_session(self) -> "Listing":
        check_order(self.first, self.end)
        return self


class Partition(_Settings):
    """How much one partition holds: so many symbols × a day or a month of sessions."""

    symbols: Annotated[int, Field(ge=1, le=10_000)] = 1
    dates: Literal["day", "month"] = "day"


class RuleSetting(_Settings):
    """A market's change to one rule; None keeps the rule's own severity or limit."""

    severity: Literal["ERROR", "WARN", "INFO"] | None = None
    limit: Annotated[float, Field(allow_inf_nan=False)] | None = None


class TieOut(_Settings):
    """Whose daily bars a market's own are compared with, and how far apart each field may be."""

    provider: Name
    tolerances: Mapping[Annotated[str, AfterValidator(_day_field)], Tolerance] = {}

    @property
    def limits(self) -> Mapping[str, float]:
        """Every field's tolerance: the market's own, else the usual one."""
        from marketpipe_assets.bars.tie_out import TOLERANCES

        return {**TOLERANCES, **self.tolerances}


class Reconcile(_Settings):
    """The second provider whose minutes are compared with a market's, and how far apart prices may be.

    `min_agreement` is the share of minutes in which both must agree.
    """

    provider: Name
    tolerance: Tolerance = 0.001
    min_agreement: Share = 0.95


class Market(_Settings):
    """Symbols with one calendar and one provider. `timeframes` are the stored bars longer than 1m, shortest first.

    `publication_delay` is how many hours after a session its provider may still be adding bars.
    """

    name: str
    calendar: Annotated[str, AfterValidator(_calendar)]
    asset_class: Annotated[str, AfterValidator(_asset_class)]
    extended_hours: Annotated[tuple[Clock, Clock], AfterValidator(_in_order)] | None = None
    provider: Name
    fallbacks: tuple[Name, ...] = ()
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1), AfterValidator(_sorted)]
    start: Annotated[Day, AfterValidator(_past)]
    timeframes: Annotated[tuple[Timeframe, ...], AfterValidator(_shortest_first)] = ("5m", "15m", "1h", "1d")
    session: Literal["regular", "extended"] = "regular"
    anchor: Literal["clock", "session"] = "clock"
    partition: Partition = Partition()
    rules: Mapping[Annotated[str, AfterValidator(_rule)], RuleSetting] = {}
    max_quarantined_share: Share = 0.05
    min_coverage: Share = 0.95
    publication_delay: Hours = 24
    listings: Mapping[Symbol, Listing] = {}
    halts: tuple[Halt, ...] = ()
    max_symbol_days_per_run: Annotated[int, Field(ge=1)] = 5000
    retention: Mapping[str, Age] = {}
    hold: tuple[Hold, ...] = ()
    schedules: Schedules = Schedules()
    tie_out: TieOut | None = None
    reconcile: Annotated[Reconcile, BeforeValidator(_named_provider)] | None = None
    description: str | None = None
    owners: tuple[Annotated[str, AfterValidator(_owner)], ...] = ()
    amendments: Amendments = Amendments()

    @field_validator("rules")
    @classmethod
    def _rules_apply(cls, rules: Mapping[str, RuleSetting], info: ValidationInfo) -> Mapping[str, RuleSetting]:
        if "asset_class" in info.data:
            _rule_set(info.data["asset_class"], rules)
        return rules

    @field_validator("retention")
    @classmethod
    def _retention_of_stored_tables(cls, ages: Mapping[str, Age], info: ValidationInfo) -> Mapping[str, Age]:
        own = [table for table in MINUTES_KEPT if table != "bars_1m"]
        known = [MINUTE_LABEL, *info.data.get("timeframes", ()), *own]
        if unknown := [label for label in ages if label not in known]:
            raise ValueError(
                f"expected an age for {', '.join(known)}{did_you_mean(unknown[0], known)}, was {unknown[0]!r}"
            )
        return ages

    @field_validator("tie_out")
    @classmethod
    def _tie_out_of_days(cls, tie_out: TieOut | None, info: ValidationInfo) -> TieOut | None:
        if tie_out is not None and "1d" not in info.data.get("timeframes", ("1d",)):
            raise ValueError("expected 1d among the market's timeframes, which is what is compared")
        return tie_out

    @field_validator("reconcile")
    @classmethod
    def _reconcile_with_another(cls, reconcile: Reconcile | None, info: ValidationInfo) -> Reconcile | None:
        asked = (info.data.get("provider"), *info.data.get("fallbacks", ()))
        if reconcile is not None and reconcile.provider in asked:
            raise ValueError("expected another provider than those the market's bars come from")
        return reconcile

    @property
    def providers(self) -> tuple[str, ...]:
        """The provider asked first and those asked for what it does not have, in order, each once."""
        return tuple(dict.fromkeys((self.provider, *self.fallbacks)))

    @property
    def rule_set(self) -> "RuleSet":
        """The rules of this market's asset class with its own severities, limits, repairs and standing waivers."""
        waivers, repairs = self.amendments
        return replace(_rule_set(self.asset_class, self.rules), waivers=standing(waivers, _today()), repairs=repairs)

    def listed_on(self, day: date) -> tuple[str, ...]:
        """The symbols that could be traded on a day, as far as `listings` tells."""

        def is_listed(listing: Listing) -> bool:
            return (listing.first is None or listing.first <= day) and (listing.end is None or day < listing.end)

        return tuple(symbol for symbol in self.symbols if is_listed(self.listings.get(symbol, Listing())))

    def kept_from(self, table: str, today: date) -> date | None:
        """The first session date whose bars of a table are kept on a day; None: all are."""
        kept = kept_for(self.retention, table)
        return None if kept is None else today - kept

    @property
    def evidence(self) -> "Evidence":
        """What the configuration and the calendar's table of halts say about holes."""
        from marketpipe_assets.bars import reasons
        from marketpipe_assets.bars.halts import HALTS

        return reasons.Evidence(
            {symbol: reasons.Listing(each.first, each.end) for symbol, each in self.listings.items()},
            halts=(*HALTS.get(self.calendar, ()), *(reasons.Halt(**dict(each)) for each in self.halts)),
            publication_delay=timedelta(hours=self.publication_delay),
        )

    @property
    def sessions(self) -> "Sessions":
        """The market's sessions, from its start to some weeks past the end of this year."""
        from marketpipe_assets.bars.sessions import sessions, today

        return sessions(self.calendar, self.start, date(today().year + 1, 2, 1), self.extended_hours)


def _rule_set(asset_class: str, rules: Mapping[str, RuleSetting]) -> "RuleSet":
    from marketpipe_assets.bars.rules import RuleSet, Severity

    return RuleSet(
        asset_class,
        {name: Severity(rule.severity) for name, rule in rules.items() if rule.severity is not None},
        {name: rule.limit for name, rule in rules.items() if rule.limit is not None},
    )


class Log(_Settings):
    """How runs, schedules, sensors, the exporter and the command say what happens: `json` for machines."""

    format: Literal["console", "json"] = "console"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Config(_Settings):
    """The whole configuration. `path` is the file it was read from, None for the packaged default."""

    config_version: int
    lake: Annotated[Path, BeforeValidator(_folder)] = Path("lake")
    catalog: Annotated[Path, BeforeValidator(_folder)] = Path("catalog.sqlite")
    waivers: Annotated[Path, BeforeValidator(_folder)] = Path("waivers.yml")
    repairs: Annotated[Path, BeforeValidator(_folder)] = Path("repairs.yml")
    reports: Annotated[Path, BeforeValidator(_folder)] = Path("validation_reports")
    providers: Mapping[Name, ProviderSettings]
    markets: Annotated[Mapping[Name, Market], Field(min_length=1)]
    alerts: Alerts = Alerts()
    log: Log = Log()
    path: Path | None = None

    @property
    def folder(self) -> Path:
        """What relative paths are relative to: the file's folder, the working directory for the packaged default."""
        return self.path.parent if self.path is not None else Path.cwd()

    @property
    def catalog_url(self) -> str:
        """The catalogue's database: that of `$DATABASE_URL` where it is Postgres, else the SQLite file `catalog`."""
        named = os.environ.get("DATABASE_URL", "")
        if not named.startswith("postgres"):
            return f"sqlite:///{self.catalog}"
        return re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql+psycopg2:", named)


def load_config(path: Path | None = None) -> Config:
    """The configuration of `path`, else `$MARKETPIPE_CONFIG`, else `./marketpipe.yaml`, else the packaged default.

    `lake` and the `root` of a provider come back absolute. Raises `ConfigError` with one line per problem; a version
    newer than known and variables of the earlier systems are a `UserWarning`.
    """
    _warn_of_legacy_variables()
    _remember_calendars()
    named = path or _named_file()
    file = read_marked(named or PACKAGED, os.environ, _spelled)
    _check_version(file)
    _check_keys(file)
    try:
        config = Config.model_validate(_document(file))
    except ValidationError as error:
        problems = _problems(file, error.errors())
        raise ConfigError("\n".join(problems)) from None  # pydantic's own text shows expanded values
    _check_providers(file, config)
    _check_symbols(file, config)
    _check_hours(file, config)
    placed = config.model_copy(update={"path": named.absolute() if named else None})
    providers = {name: _rooted(settings, placed.folder) for name, settings in config.providers.items()}
    places = {name: _placed(getattr(config, name), placed.folder) for name in PLACES}
    if places["reports"].is_relative_to(places["lake"]):
        place: Place = ("reports",) if ("reports",) in file.written else ("lake",)
        raise file.error(place, f"expected reports in a folder outside the lake, was {file.was(place)}")
    if "?" in str(places["catalog"]):  # where the path in the URL of a database ends
        raise file.error(("catalog",), f"expected a path without ?, was {str(places['catalog'])!r}")
    markets = _amended(config.markets, places["waivers"], places["repairs"])
    return placed.model_copy(update={**places, "providers": providers, "markets": markets})


def _remember_calendars() -> None:
    from marketpipe_assets.bars.calendars import remember
    from marketpipe_assets.calendar_files import CalendarFiles

    with suppress(RuntimeError):  # a user of a container may have no home
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        remember(CalendarFiles(caches / "marketpipe" / "calendars"))


PLACES = ("lake", "catalog", "waivers", "repairs", "reports")
"""Keys whose paths are relative to the file's folder."""


def _amended(markets: Mapping[str, Market], waivers: Path, repairs: Path) -> Mapping[str, Market]:
    """The markets with the waivers and repairs of their bars; a warning for each waiver that has expired."""
    if not (waivers.exists() or repairs.exists()):
        return markets
    from marketpipe_assets.bars.rules import STRUCTURAL

    structural = dict.fromkeys(STRUCTURAL, "longer bars rest on it")
    scopes = {name: Scope(each.symbols, each.rule_set.waivable, structural) for name, each in markets.items()}
    waived, repaired = waivers_of(waivers, os.environ, scopes), repairs_of(repairs, os.environ, scopes)
    for gone in dict.fromkeys(expired((each for of_market in waived.values() for each in of_market), _today())):
        warnings.warn(f"{gone.place}: the waiver has expired on {gone.expires}", UserWarning, stacklevel=4)
    return {
        name: market.model_copy(update={"amendments": Amendments(waived.get(name, ()), repaired.get(name, ()))})
        for name, market in markets.items()
    }


def _today() -> date:
    return datetime.now(UTC).date()


def _placed(path: Path, folder: Path) -> Path:
    return (folder / path.expanduser()).absolute()


def _rooted(settings: ProviderSettings, folder: Path) -> ProviderSettings:
    """The block with its `root`, where it has one, made absolute as `lake` is."""
    if not isinstance(root := settings.options.get("root"), str):
        return settings
    return settings.model_copy(update={"options": {**settings.options, "root": str(_placed(Path(root), folder))}})


def dagster_home(config: Config) -> Path:
    """The Dagster instance's folder: `$DAGSTER_HOME`, else `.dagster/` beside the configuration, made and seeded."""
    if named := os.environ.get("DAGSTER_HOME"):
        return Path(named)
    home = config.folder / ".dagster"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / INSTANCE.name).exists():
        shutil.copyfile(INSTANCE, home / INSTANCE.name)
    return home


def export_dagster_home(config: Config) -> Path:
    """`dagster_home`, also set in this process's environment, where Dagster and its code location look for both."""
    home = dagster_home(config)
    os.environ["DAGSTER_HOME"] = str(home)
    if config.path is not None:
        os.environ["MARKETPIPE_CONFIG"] = str(config.path)
    return home


def environment(names: Sequence[str]) -> dict[str, str]:
    """Those of the variables that are set and not empty. Providers' secrets come this way only."""
    return {name: value for name in names if (value := os.environ.get(name))}


def secrets_of_environment() -> list[str]:
    """Every value that must not be shown: of variables named as secrets are, and the password of the database."""
    named = [value for name, value in os.environ.items() if SECRET.search(name) and value]
    password = re.match(r"\w[\w+]*://[^:/@]*:([^@]+)@", os.environ.get("DATABASE_URL", ""))
    return [*named, *([password[1]] if password else [])]


def _named_file() -> Path | None:
    if named := os.environ.get("MARKETPIPE_CONFIG"):
        return Path(named)
    beside = Path("marketpipe.yaml")
    return beside if beside.exists() else None


def _warn_of_legacy_variables() -> None:
    for name in environment(tuple(LEGACY_VARIABLES)):
        warnings.warn(f"{name} is set and ignored: {LEGACY_VARIABLES[name]}", UserWarning, stacklevel=3)


def _spelled(key: str, place: Place) -> str:
    """Kebab-case is accepted for every key of ours, all of which are lower case.

    Keys of a provider's options (columns, faults) and of listings (symbols) are data.
    """
    is_data = (place[:1] == ("providers",) and len(place) > 2) or place[2:] == ("listings",)
    return key if is_data or not key.islower() else key.replace("-", "_")


def _check_version(file: MarkedDocument) -> None:
    place: Place = ("config_version",)
    version = file.document.get("config_version") if isinstance(file.document, dict) else None
    if not isinstance(version, str) or re.fullmatch(r"-?\d+", version) is None:
        raise file.error(place, f"expected the whole number {CONFIG_VERSION}, was {file.was(place)}")
    if int(version) < OLDEST_VERSION:
        raise file.error(
            place,
            f"expected {OLDEST_VERSION} or later, was {version}: to upgrade, spell the keys as {PACKAGED.name} of this "
            f"release does, set `config_version: {CONFIG_VERSION}`, and run `marketpipe config check`",
        )
    if int(version) > CONFIG_VERSION:
        newer = file.error(place, f"expected {CONFIG_VERSION} or earlier, was {version}: read as if it were that")
        warnings.warn(str(newer), UserWarning, stacklevel=3)


def _check_keys(file: MarkedDocument) -> None:
    """Refuse secrets, and the fields of the models that are no keys of the file."""
    for place in file.written:
        if place == ("path",) or (place[:1] == ("markets",) and place[2:] in (("name",), ("amendments",))):
            raise _unknown_key(file, place)
        names = place[2:] if place[2:3] != ("symbols",) else ()  # whose keys are a vendor's symbols: KEY is one
        if place[:1] == ("providers",) and any(SECRET.search(str(part)) for part in names):
            raise file.error(
                place, "expected no secret here: secrets come from the environment only, see `marketpipe providers`"
            )


def _document(file: MarkedDocument) -> JsonValue:
    """The file as the models want it: markets know their names, and a provider's own settings are apart."""
    if not isinstance(file.document, dict):
        return file.document
    return {
        **file.document,
        "providers": _blocks(file.document.get("providers"), lambda name, block: _provider(file, name, block)),
        "markets": _blocks(file.document.get("markets"), lambda name, block: {**block, "name": name}),
    }


Block = dict[str, JsonValue]


def _blocks(section: JsonValue, completed: Callable[[str, Block], Block]) -> JsonValue:
    if not isinstance(section, dict):
        return section
    blocks = {name: {} if block is None else block for name, block in section.items()}
    return {name: completed(name, block) if isinstance(block, dict) else block for name, block in blocks.items()}


def _provider(file: MarkedDocument, name: str, block: Block) -> Block:
    options = {key: block[key] for key in block if key != "type"}
    block_place: Place = ("providers", name)
    places: Block = {key: file.line((*block_place, key)) for key in options}
    return {"type": block.get("type", name), "options": options, "places": {**places, "": file.line(block_place)}}


def _check_providers(file: MarkedDocument, config: Config) -> None:
    for name, market in config.markets.items():
        named: list[tuple[Place, str]] = [(("markets", name, "provider"), market.provider)]
        named += [(("markets", name, "fallbacks", n), each) for n, each in enumerate(market.fallbacks)]
        if market.tie_out is not None:
            named.append((("markets", name, "tie_out", "provider"), market.tie_out.provider))
        if market.reconcile is not None:
            key: Place = ("markets", name, "reconcile")
            named.append(((*key, "provider") if (*key, "provider") in file.written else key, market.reconcile.provider))
        for place, provider in named:
            if provider not in config.providers:
                known = f"{', '.join(config.providers)}{did_you_mean(provider, config.providers)}"
                raise file.error(place, f"expected a provider of this file, {known}, was {file.was(place)}")


def _check_symbols(file: MarkedDocument, config: Config) -> None:
    """What is said of a misspelt symbol is said of none. A hold may name one whose bars are all that is left of it."""
    for name, market in config.markets.items():
        said: list[tuple[Place, str]] = [(("markets", name, "listings", symbol), symbol) for symbol in market.listings]
        entries = [(("markets", name, "halts", number), each.symbols) for number, each in enumerate(market.halts)]
        entries += [(("markets", name, "hold", number), each.symbols) for number, each in enumerate(market.hold)]
        said += [((*entry, "symbols", n), symbol) for entry, names in entries for n, symbol in enumerate(names or ())]
        for place, symbol in said:
            if symbol in market.symbols:
                continue
            unknown = file.error(
                place, f"expected a symbol of {name}{did_you_mean(symbol, market.symbols)}, was {symbol!r}"
            )
            if place[2] != "hold":
                raise unknown
            warnings.warn(f"{unknown}: it holds what is left of one that was taken out", UserWarning, stacklevel=3)


def _check_hours(file: MarkedDocument, config: Config) -> None:
    for name, market in config.markets.items():
        if market.extended_hours is None:
            continue
        place: Place = ("markets", name, "extended_hours")
        first, last = market.extended_hours
        was = f"was {first:%H:%M} to {last:%H:%M}"
        try:
            table = market.sessions.table
        except ValueError as error:  # the calendar does not go back so far
            raise file.error(("markets", name, "start"), str(error)) from error
        begins, ends = table["window_start"], table["window_end"]
        longer = (begins < table["open"]) | (ends > table["close"])
        if longer.sum() * 2 < table.height:  # a day that ends early is no evidence
            raise file.error(place, f"expected hours that begin before most sessions or end after them, {was}")
        if (ends > begins.shift(-1)).any():
            raise file.error(place, f"expected hours that end before the next session begins, {was}")


MODELS: Mapping[Place, type[BaseModel]] = {
    ("*",): Config,
    ("alerts", "*"): Alerts,
    ("alerts", "email", "*"): Email,
    ("log", "*"): Log,
    ("markets", "*", "*"): Market,
    ("markets", "*", "halts", "*", "*"): Halt,
    ("markets", "*", "hold", "*", "*"): Hold,
    ("markets", "*", "listings", "*", "*"): Listing,
    ("markets", "*", "partition", "*"): Partition,
    ("markets", "*", "reconcile", "*"): Reconcile,
    ("markets", "*", "rules", "*", "*"): RuleSetting,
    ("markets", "*", "schedules", "*"): Schedules,
    ("markets", "*", "tie_out", "*"): TieOut,
}
"""Where a key lies → the model that has it. Providers take any key here: their own models check them."""

EXPECTED: Mapping[str, str] = {
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "missing": "a value",
    "model_type": "a mapping",
    "path_type": "a folder",
    "string_type": "text",
    "too_long": "fewer items",
    "too_short": "at least one, was none",
    "tuple_type": "a list",
}
"""pydantic's error type → what was expected, where its own words speak of Python."""


def _problems(file: MarkedDocument, errors: Sequence[ErrorDetails]) -> list[str]:
    """A line for each problem. A list whose items are refused is told as too short besides, which is no other one."""
    outer = {error["loc"][:end] for error in errors for end in range(len(error["loc"]))}
    told = [error for error in errors if error["type"] != "too_short" or error["loc"] not in outer]
    return [str(_problem(file, error)) for error in told]


def _problem(file: MarkedDocument, details: ErrorDetails) -> ConfigError:
    is_key = details["loc"][-1:] == ("[key]",)
    place: Place = tuple(part for part in details["loc"] if part != "[key]")
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(file, place)
    if kind == "value_error":
        message = str(details["ctx"]["error"])
    else:
        message = f"expected {EXPECTED.get(kind, details['msg'].removeprefix('Input should be '))}"
    was = repr(place[-1]) if is_key else file.was(place)
    return file.error(place, message if ", was " in message else f"{message}, was {was}")


def _unknown_key(file: MarkedDocument, place: Place) -> ConfigError:
    model = next(model for pattern, model in MODELS.items() if _matches(place, pattern))
    keys = [key for key in model.model_fields if key not in ("path", "name", "amendments")]
    return file.error(place, f"unknown key{did_you_mean(str(place[-1]), keys)}; expected one of {', '.join(keys)}")


def _matches(place: Place, pattern: Place) -> bool:
    return len(place) == len(pattern) and all(part in ("*", here) for here, part in zip(place, pattern, strict=True))
