"""One format for what runs, schedules, sensors, the exporter and the command say. Secrets are masked.

JSON has the keys of Dagster's own `--log-format json` (`event`, `level`, `logger`, `timestamp`), and what is known of
`market`, `symbol`, `session`, `provider` and `run_id`. The configuration's `log:` chooses.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from marketpipe_assets.providers.redaction import redactor

Style = Literal["console", "json"]

LOGGER = "marketpipe"
CONTEXT = ("market", "symbol", "session", "provider", "run_id", "job", "step")
"""What a record may be about, in the order it is shown. Give it as `extra`."""

PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


class Formatter(logging.Formatter):
    """A record as one line: an object of JSON, or words. `providers` maps a market to its provider."""

    def __init__(self, style: Style, secrets: Sequence[str] = (), providers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._is_json = style == "json"
        self._masked = redactor(secrets)
        self._providers = providers or {}

    def format(self, record: logging.LogRecord) -> str:
        said = self._about(record)
        event = str(said.pop("event"))
        if record.exc_info and record.exc_info[0] is not None:
            event = f"{event}\n{self.formatException(record.exc_info)}"
        at = datetime.fromtimestamp(record.created, UTC)
        said = {key: self._masked(str(value)) for key, value in said.items()}
        if self._is_json:
            known = {
                "level": record.levelname.lower(),
                "logger": record.name,
                "timestamp": at.isoformat(timespec="milliseconds"),
            }
            return json.dumps({"event": self._masked(event), **known, **said}, ensure_ascii=False)
        about = "".join(f" {key}={value}" for key, value in said.items())
        return f"{at:%Y-%m-%d %H:%M:%S} {record.levelname} {self._masked(event)}{about}"

    def _about(self, record: logging.LogRecord) -> dict[str, Any]:
        """`event`, and what is known of `CONTEXT`."""
        known: dict[str, Any] = {"event": record.getMessage()}
        if (of := record.__dict__.get("dagster_meta")) is not None:
            known |= _of_run(of, self._providers) if "step_key" in of else {"event": of["orig_message"]}  # or of a tick
            known["event"] += record.getMessage().partition(of["orig_message"])[2]  # the error, where there is one
        known |= {key: record.__dict__[key] for key in CONTEXT if record.__dict__.get(key) is not None}
        if "provider" not in known and known.get("market") in self._providers:
            known["provider"] = self._providers[known["market"]]
        return {key: known[key] for key in ("event", *CONTEXT) if known.get(key)}


def _of_run(run: Mapping[str, Any], markets: Iterable[str]) -> dict[str, Any]:
    """What Dagster knows of a message of a run. The names of steps and jobs begin with that of their market."""
    step = run["step_key"]
    session, symbol = _partition(run["job_tags"])
    of = [name for name in markets if f"{step or run['job_name']}".startswith(f"{name}_")]
    return {
        "event": run["orig_message"],
        "market": max(of, key=len, default=None),
        "session": session,
        "symbol": symbol,
        "run_id": run["run_id"],
        "job": run["job_name"],
        "step": step,
    }


def _partition(tags: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Session and symbol of a run's partition, `first...last` of a range."""
    ends = [tags[tag].split("|", 1) for tag in PARTITION_TAGS if tag in tags]
    if not ends or any(len(end) != 2 for end in ends):
        return None, None
    sessions, symbols = (list(dict.fromkeys(part)) for part in zip(*ends, strict=True))
    return "...".join(sessions), "...".join(symbols)


class _DagsterConsole(logging.Logger):
    """A console logger as Dagster makes one for each run and each tick, by the class that is set for loggers."""

    formatter: Formatter | None = None
    least = logging.INFO

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802  # logging's name
        if self.name == "dagster":
            hdlr.setFormatter(self.formatter)
            hdlr.setLevel(self.least)
        super().addHandler(hdlr)


def use_in_dagster(formatter: Formatter, level: str) -> None:
    """Let the console loggers of runs, schedules and sensors of this process say things our way.

    A logger of a code location speaks only where a run's configuration names it, and never in a sensor; their class is
    what the standard library lets one choose.
    """
    _DagsterConsole.formatter, _DagsterConsole.least = formatter, logging.getLevelNamesMapping()[level]
    logging.setLoggerClass(_DagsterConsole)
