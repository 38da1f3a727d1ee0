"""Pages of docs/ that follow from the code: `python -m marketpipe_assets_tests.reference` writes them anew.

A test holds the committed pages to what is written here.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click
from typer.main import get_command
from typer.models import Context

from marketpipe_assets.bars.rules import ACROSS_SESSIONS, LIMITS, RULES, STRUCTURAL, WITHOUT_VOLUME, RuleSet
from marketpipe_assets.cli.app import app
from marketpipe_assets.config import MODELS
from marketpipe_assets.metrics.names import METRICS, Sample, families
from marketpipe_assets.providers import PROVIDERS, provider_class

DOCS = Path(__file__).parents[1] / "docs"

KEYS: Mapping[str, str] = {
    "config_version": "The version of this format, required. A later one is read as this, with a warning.",
    "lake": "The folder of the bars, relative to this file.",
    "catalog": "The SQLite file of the catalogue; `$DATABASE_URL` names a Postgres instead.",
    "providers": "Sources of bars: a name of yours → its settings. See [Providers](#providers).",
    "markets": "Sets of symbols: a name of yours → its settings.",
    "alerts": "Who is told of trouble.",
    "log": "How what happens is said.",
    "waivers": "The file of waivers, relative to this one.",
    "repairs": "The file of repairs, relative to this one.",
    "reports": "The folder of the audit reports of runs, relative to this file.",
    "alerts.webhook": "An https address that takes Slack's JSON, best as a `$VARIABLE`.",
    "alerts.email": "A mail server, and who is told.",
    "alerts.repeat_hours": "The same trouble is told once in so many hours.",
    "alerts.email.host": "The mail server.",
    "alerts.email.to": "Who is told: one address or a list.",
    "alerts.email.sender": "The address that mails come from.",
    "alerts.email.port": "The server's port.",
    "alerts.email.user": "Who logs in; the password is `$MARKETPIPE_SMTP_PASSWORD`.",
    "alerts.email.security": "How the connection is secured.",
    "log.format": "`console` is for people, `json` for machines.",
    "log.level": "What is less grave is not said.",
    "calendar": "A calendar of exchange_calendars such as `XNYS`, `24/7`, or one of ours such as `CME_GLOBEX`.",
    "asset_class": "Sets the limits of the rules: `equity`, `crypto`, `future`, `spread`, `index`, `fx`.",
    "extended_hours": "Local start of pre-market and end of post-market; without it there are only regular minutes.",
    "provider": "A name below `providers`.",
    "fallbacks": "Providers that are asked for the symbol-days the first one has nothing of, never within one.",
    "symbols": "The symbols. Text: `0700` keeps its zero.",
    "start": "The first session date.",
    "timeframes": "Stored bars longer than 1m. 1w and 1M are computed from 1d when read.",
    "session": "Which minutes longer bars are built from. 1d is always of the regular ones.",
    "anchor": "`clock`: on the exchange's clock, as vendors' bars are; `session`: counted from the open.",
    "partition": "How much one partition of Dagster's holds.",
    "rules": "Changes to rules: a rule's id → severity and limit.",
    "max_quarantined_share": "A run whose share of quarantined bars is higher builds no longer bars.",
    "min_coverage": "Below this share of the expected minutes a check warns.",
    "publication_delay": "Hours after a session in which its provider may still be adding bars.",
    "listings": "First and last sessions of symbols that lie within the market's dates: symbol → `first`, `end`.",
    "halts": "Spans in which trading stood still, so that their minutes are not called gaps.",
    "max_symbol_days_per_run": "Most symbol-days in one run, which bounds its memory; larger ranges are several runs.",
    "retention": "How long bars are kept: a timeframe or table → `2y`, `18m`, `30d` or `forever`.",
    "hold": "Bars that retention leaves alone.",
    "schedules": "When runs start by themselves.",
    "reconcile": "A second provider whose minutes are compared with this market's.",
    "tie_out": "Whose daily bars this market's are compared with.",
    "reconcile.provider": "A name below `providers`.",
    "reconcile.tolerance": "The share by which prices of a minute may differ.",
    "reconcile.min_agreement": "The share of minutes in which both must agree.",
    "tie_out.provider": "A name below `providers`, whose daily bars are asked for.",
    "tie_out.tolerances": "A field such as `volume` → the share by which it may differ.",
    "universe": "A universe in place of `symbols`.",
    "description": "A sentence that the web UI shows of the market's tables.",
    "owners": "E-mail addresses, or `team:name`, that the web UI shows.",
    "hold.reason": "Why; it is told whenever bars are held back.",
    "hold.symbols": "All where none is named.",
    "hold.start": "The first session date that is held; without it from the first.",
    "hold.end": "The date before which holding ends; without it never.",
    "partition.symbols": "Symbols in one partition.",
    "partition.dates": "Sessions in one partition.",
    "rules.severity": "`ERROR` quarantines a bar, `WARN` flags it, `INFO` counts it.",
    "rules.limit": "The rule's limit, in the unit of its page.",
    "schedules.enabled": "Whether schedules run without being switched on in the web UI.",
    "schedules.heal": "Whether the sensor that asks again for gaps runs without being switched on.",
    "schedules.after_close": "Minutes after a session is published.",
    "schedules.corrections": "How many sessions later a session is read again, for what its provider corrects.",
    "schedules.morning": "When corrections are read, in the exchange's time zone.",
    "schedules.late_after": "Minutes after which a session that is not held is told of.",
    "halts.start": "The first instant, with its zone.",
    "halts.end": "The instant at which trading goes on.",
    "halts.symbols": "All where none is named.",
    "listings.first": "The first session.",
    "listings.end": "The session from which it is no longer traded.",
}
"""Key, with the section it lies in where that is not a market, → what it means."""

HIDDEN = ("path", "name", "places", "amendments")
"""Fields of the models that are no keys of the file."""
SECTIONS: Mapping[str, str] = {"": "The file", "market": "A market"}


def configuration() -> str:
    """Every key of marketpipe.yaml, from the models that read it."""
    lines = [
        "# Configuration",
        "",
        "The keys of `marketpipe.yaml`. It is found as `$MARKETPIPE_CONFIG`, else in the working folder; without one",
        "the packaged markets of invented bars are used. `$VARIABLE` in a value is taken from the environment, and",
        "`marketpipe config check` says what is wrong with a file, with the line.",
        "",
        "Secrets come from the environment only; [Providers](providers.md) names the variables.",
    ]
    for pattern, model in MODELS.items():
        section = ".".join(part for part in pattern[:-1] if part not in ("*", "markets") and isinstance(part, str))
        title = SECTIONS["market"] if pattern[:-1] == ("markets", "*") else f"`{section}`" if section else SECTIONS[""]
        lines += ["", f"## {title}", "", *_table(_keys(model, section))]
    lines += [
        "",
        "## Providers",
        "",
        "A block has `type`, the provider, where its name is not that, and the options below.",
    ]
    for name in sorted(PROVIDERS):
        lines += ["", f"### {name}", "", *_table(_options(provider_class(name)))]
    return "\n".join(lines) + "\n"


def _keys(model: type[BaseModel], section: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        if name not in HIDDEN and not field.exclude:
            key = f"{section}.{name}" if section else name
            yield name, _type(model, name), _default(field), field.description or KEYS[key]


def _options(provider: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in provider.model_fields.items():
        if name not in HIDDEN and not field.exclude:
            yield name, _type(provider, name), _default(field), field.description or ""


def _table(rows: Iterator[tuple[str, str, str, str]]) -> list[str]:
    shown = [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in rows]
    return ["| key | is | default | |", "| --- | --- | --- | --- |", *shown]


def _type(model: type[BaseModel], name: str) -> str:
    return _words(model.model_json_schema()["properties"].get(name, {}))


WORDS: Mapping[str, str] = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
    "date": "date",
    "date-time": "instant",
    "time": "time",
    "duration": "age",
    "path": "folder or file",
    "password": "text",
}


def _words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(each) for each in schema["anyOf"] if each.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    return WORDS.get(schema.get("format", ""), WORDS.get(schema.get("type", ""), "mapping"))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, BaseModel):
        return ""
    shown = (
        ", ".join(map(str, value))
        if isinstance(value, tuple)
        else str(value).lower()
        if value in (True, False)
        else value
    )
    return f"`{shown}`"


def commands() -> str:
    """Every command with its options, from the command itself."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="marketpipe")
    return f"{text.replace('# `marketpipe`', '# Commands', 1).strip()}\n"


def metrics() -> str:
    """Every metric, from their table."""
    rows = [
        f"| `{name}` | {_kind(name)} | {', '.join(f'`{label}`' for label in kind.labels)} | {kind.text} |"
        for name, kind in METRICS.items()
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            "`marketpipe metrics --port 8000` serves these on loopback. They are read from the catalogue, Dagster's",
            "instance and the lake, so they count what was committed; `marketpipe metrics --metric NAME` shows what",
            "each run added, in the terminal.",
            "",
            "| metric | type | labels | |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "`sessions` is how many of the last sessions that are due are looked at: `1`, `20` or `all`.",
            "",
        ]
    )


def _kind(name: str) -> str:
    values: Mapping[str, tuple[Any, ...]] = {"histogram": ([("+Inf", 1)], 1.0), "summary": (1, 1.0)}
    family = METRICS[name].family(name, "", labels=METRICS[name].labels)
    (made,) = families([Sample(name, METRICS[name].labels, values.get(family.type, (1,)))])
    return str(made.type)


NOTES: Mapping[str, str] = {
    "duplicate_ts": "What two copies must share to be identical are their prices, volume, trade count and vwap.",
    "price_jump": "The limit is the share of the close before by which a bar may open from it. Within a session only.",
    "overnight_jump": (
        "The limit is a share as that of `price_jump`. The session before is whichever is judged together with this "
        "one, so the rule only counts: what is stored of a session follows from that session alone. A move within 5 % "
        "of a ratio at which shares are split or merged is none."
    ),
    "bad_tick": (
        "The limit is how many times the range of the bars around a wick reaches beyond the open and close of both the "
        "bar before and the bar after; a wick of less than `bad_tick_floor`, a share of the price, is none. A crash is "
        "no bad tick: its level stays, so the bar after it is near. Bars before the open and after the close are "
        "measured by each other."
    ),
    "impossible_tick": "The limit is how many times the price of the bars before and after a high or low may be.",
    "stale_feed": "The limit is how many bars in a row, counted with the first: a whole number of 2 or more.",
    "constant_price": "As `stale_feed`; bars count whose volume is above `constant_price_floor`.",
    "rising_volume": "As `stale_feed`.",
    "zero_volume_run": "As `stale_feed`, of 1 or more.",
    "volume_spike": "The limit is how many times the mean of the twenty bars before in the session.",
    "vwap_range": "The limit is the share of the price by which it may lie outside.",
    "price_range": "The limit is the highest price; the lowest is `price_floor`.",
    "huge_volume": "The limit is a volume.",
    "non_positive_price": "The limit is the lowest price; zero itself is refused unless lower prices are allowed.",
}
"""Rule → what its sentence leaves open."""


def rules() -> str:
    """Every rule, what follows from it, and its limits by asset class."""
    parts = [
        "# Rules",
        "",
        "<!-- Written by `python -m marketpipe_assets_tests.reference`. -->",
        "",
        (
            "Every raw bar is judged by every rule. A broken rule of severity `ERROR` puts the bar into "
            "`quarantined_bars_1m`, `WARN` names it in the bar's `flags`, `INFO` only counts it. A market may set a "
            "rule's severity and limit below [`rules`](configuration.md#rules); rules marked *fixed* keep theirs: "
            "longer bars rest on them. What is right all the same can be waived, and what is wrong repaired: see "
            "[Waivers and repairs](waivers.md)."
        ),
        "",
        "| rule | severity | a good bar | |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{name}` | {rule.severity.value}{', fixed' if name in STRUCTURAL | ACROSS_SESSIONS else ''} "
            f"| {rule.sentence} | {NOTES.get(name, '')} |"
            for name, rule in RULES.items()
        ),
        "",
        (
            "Ids stand in files, metadata and metrics, and are never used for another rule. Rules that need a volume "
            f"do not apply to {' and '.join(sorted(WITHOUT_VOLUME))}: "
            f"{', '.join(f'`{name}`' for name, rule in RULES.items() if rule.needs_volume)}."
        ),
        "",
        "## Limits",
        "",
        f"| limit | {' | '.join(LIMITS)} |",
        f"| --- |{' --- |' * len(LIMITS)}",
        *(
            f"| `{name}` | {' | '.join(f'{RuleSet(each).limits[name]:,g}' for each in LIMITS)} |"
            for name in LIMITS["equity"]
        ),
        "",
        "`inf`: nothing is above it.",
        "",
    ]
    return "\n".join(parts)


PAGES: Mapping[str, Callable[[], str]] = {
    "rules.md": rules,
    "configuration.md": configuration,
    "cli.md": commands,
    "metrics.md": metrics,
}
"""Page → what writes it."""

if __name__ == "__main__":
    for page, written in PAGES.items():
        (DOCS / page).write_text(written())
