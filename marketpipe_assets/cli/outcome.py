"""How a command ends: 0, or one line on stderr and 2 for what its user must mend, 1 for what failed while it ran."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from marketpipe_assets.marked_yaml import ConfigError

INTERRUPTED = 130  # what shells call it


class UserError(Exception):
    """A command cannot begin as it was asked: exit code 2."""


class RunTimeError(Exception):
    """A command began and could not end well: exit code 1."""


class Commands(TyperGroup):
    """A group whose expected errors are one line each, without a traceback; any other error keeps its own."""

    def main(self, args: Sequence[str] | None = None, *_: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **kwargs)
        sys.exit(self._exit_code(args, **kwargs))

    def _exit_code(self, args: Sequence[str] | None, **kwargs: Any) -> int:
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
        typer.echo(f"error: {line}", err=True)
    return exit_code


def note(message: str) -> None:
    """Something the user should know that stops nothing."""
    typer.echo(f"note: {message}", err=True)


@contextmanager
def user_input() -> Iterator[None]:
    """Around calls that judge what the user gave: their `ValueError` is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def lake_access() -> Iterator[None]:
    """Around calls that read the lake: a damaged file and a full disk are failures with one line."""
    from marketpipe_assets.lake.parquet import LakeError

    try:
        yield
    except LakeError as error:
        raise RunTimeError(one_line(str(error))) from error


def one_line(message: str) -> str:
    return " ".join(message.split())
