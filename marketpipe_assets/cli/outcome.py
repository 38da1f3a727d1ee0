"""How a command ends: 0, or one line on stderr and 2 for what its user must mend, 1 for what failed while it ran."""

import gc
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from marketpipe_assets.config import Config, ConfigError, secrets_of_environment
from marketpipe_assets.logs import LOGGER, Formatter

INTERRUPTED = 130  # what shells call it
OBJECTS = 20_000  # made before Python looks for garbage; with its own 700 that is a tenth of a short command


class UserError(Exception):
    """A command cannot begin as it was asked: exit code 2."""


class RunTimeError(Exception):
    """A command began and could not end well: exit code 1."""


class Commands(TyperGroup):
    """A group whose expected errors are one line each, without a traceback; any other error keeps its own."""

    def main(self, args: Sequence[str] | None = None, *_: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **kwargs)
        gc.set_threshold(OBJECTS)
        sys.exit(self._exit_code(args, **kwargs))

    def _exit_code(self, args: Sequence[str] | None, **kwargs: Any) -> int:
        speak(Words())
        try:
            code: int = super().main(args, standalone_mode=False, **kwargs) or 0
            return say("stopped", code) if code == INTERRUPTED else code
        except TyperException as error:
            return say(error.format_message(), error.exit_code)
        except (ConfigError, UserError) as error:
            return say(str(error), 2)
        except RunTimeError as error:
            return say(str(error), 1)
        except typer.Abort:
            return say("stopped", 1)


def say(message: str, exit_code: int) -> int:
    """Print an error, one line for each line of the message, and give the exit code back."""
    for line in message.splitlines():
        logging.getLogger(LOGGER).error(line)
    return exit_code


def note(message: str) -> None:
    """Something the user should know that stops nothing."""
    logging.getLogger(LOGGER).info(message)


class Words(logging.Formatter):
    """What a command says to people: one line that begins with what it is."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{'note' if record.levelno < logging.ERROR else 'error'}: {record.getMessage()}"


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def speak(formatter: logging.Formatter, level: str = "INFO") -> None:
    """Say what follows on standard error in this way."""
    handler = _ToStderr()
    handler.setFormatter(formatter)
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def formatter_of(config: Config) -> Formatter:
    """The format that the configuration's `log` asks for."""
    providers = {name: market.provider for name, market in config.markets.items()}
    return Formatter(config.log.format, secrets_of_environment(), providers)


@contextmanager
def user_input() -> Iterator[None]:
    """Around calls that judge what the user gave: their `ValueError` is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def file_access() -> Iterator[None]:
    """Around calls that open files and folders: one that cannot be used is a failure with one line."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise  # a pipe that was closed, which is no failure
        raise RunTimeError(f"{error.filename} cannot be used: {error.strerror}") from error


@contextmanager
def lake_access() -> Iterator[None]:
    """Around calls that read the lake: a damaged file and a full disk are failures with one line."""
    from marketpipe_assets.lake.parquet import LakeError

    try:
        with file_access():
            yield
    except LakeError as error:
        raise RunTimeError(one_line(str(error))) from error


@contextmanager
def catalogue() -> Iterator[None]:
    """Around calls that use the catalogue: a database that cannot be used is a failure with one line."""
    from sqlalchemy.exc import DBAPIError

    from marketpipe_assets.catalog.store import CatalogError

    try:
        with file_access():
            yield
    except CatalogError as error:
        raise RunTimeError(one_line(str(error))) from error
    except DBAPIError as error:
        raise RunTimeError(f"the catalogue cannot be used: {one_line(str(error.orig))}") from error


def one_line(message: str) -> str:
    return " ".join(message.split())
