"""`marketpipe schedule generate`: units of systemd and a line for cron, for machines without containers."""

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from marketpipe_assets.cli.options import ConfigOption, configuration
from marketpipe_assets.cli.outcome import UserError, file_access, note
from marketpipe_assets.config import Config, dagster_home

SERVICE = """\
[Unit]
Description=marketpipe: {what}
After=network-online.target
Wants=network-online.target

[Service]
Type={kind}
WorkingDirectory={folder}
Environment="DAGSTER_HOME={home}"
Environment="MARKETPIPE_CONFIG={configuration}"
EnvironmentFile=-{folder}/secrets.env
ExecStart={command}
{more}
"""
"""Secrets are read from secrets.env, which only its owner should be able to read; the dash: it may be missing."""

BACKFILL = "backfill --lookback 30"

LASTING = """\
Restart=always
RestartSec=10

[Install]
WantedBy=default.target"""

TIMER = """\
[Unit]
Description=marketpipe: {what}

[Timer]
OnCalendar={when}
Persistent=true

[Install]
WantedBy=timers.target
"""


def generate(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Write the units there.", show_default="print"),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the web UI, on this machine only.")] = 3000,
    config: ConfigOption = None,
) -> None:
    """Print units of systemd for the web UI, the daemon and a nightly backfill, and a line for cron.

    The daemon runs schedules and sensors; the timer and the cron line are for machines without one.
    """
    loaded = configuration(config)
    with file_access():
        units, cron = units_of(loaded, port), cron_line(loaded)
    if output is None:
        for name, text in units.items():
            typer.echo(f"# {name}\n{text}")
        typer.echo(f"# crontab\n{cron}")
        return
    try:
        output.mkdir(exist_ok=True)
        for name, text in {**units, "marketpipe.cron": f"{cron}\n"}.items():
            (output / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output: expected a folder that can be written, was {output}: {error}") from None
    note(f"{len(units)} units and marketpipe.cron in {output}: copy the units to ~/.config/systemd/user, and there run")
    note("systemctl --user enable --now marketpipe-webserver marketpipe-daemon")


def units_of(config: Config, port: int) -> dict[str, str]:
    """File name → unit."""
    location = "-m marketpipe_assets.definitions"
    paths = {"folder": config.folder, "home": dagster_home(config), "configuration": _file(config)}
    place = {name: _escaped(path) for name, path in paths.items()}
    web = f"{_of_unit('dagster-webserver')} -h 127.0.0.1 -p {port} {location}"
    daemon = f"{_of_unit('dagster-daemon')} run {location}"
    backfill = f"{_of_unit('marketpipe')} {BACKFILL}"
    return {
        "marketpipe-webserver.service": SERVICE.format(what="web UI", kind="exec", command=web, more=LASTING, **place),
        "marketpipe-daemon.service": SERVICE.format(
            what="schedules, sensors and queued runs", kind="exec", command=daemon, more=LASTING, **place
        ),
        "marketpipe-backfill.service": SERVICE.format(
            what="fetch what is missing",
            kind="oneshot",
            command=backfill,
            more="",
            **place,
        ),
        "marketpipe-backfill.timer": TIMER.format(what="fetch what is missing every night", when="*-*-* 05:30:00"),
    }


def cron_line(config: Config) -> str:
    """Every night, with the output beside the configuration."""
    home, file, folder = (quote(str(path)) for path in (dagster_home(config), _file(config), config.folder))
    command = f"{quote(str(_installed('marketpipe')))} {BACKFILL}"
    line = f"cd {folder} && DAGSTER_HOME={home} MARKETPIPE_CONFIG={file} {command} >> backfill.log 2>&1"
    return "30 5 * * * " + line.replace("%", "\\%")  # cron ends a line at %


def _installed(command: str) -> Path:
    return Path(sys.executable).with_name(command)


def _of_unit(command: str) -> str:
    """As systemd reads it: in quotes, since a folder may hold blanks, and without what it would replace."""
    return f'"{_escaped(_installed(command))}"'


def _escaped(path: Path) -> str:
    return f"{path}".replace("%", "%%")


def _file(config: Config) -> Path:
    if config.path is None:
        raise UserError("expected a marketpipe.yaml, was the packaged default: units name the file they use")
    return config.path
