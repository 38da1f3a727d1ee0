"""Imports go one way, and reading bars does not cost the import of Dagster."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "marketpipe_assets"
ROOT = Path(__file__).parent.parent / PACKAGE

MAY_IMPORT = {
    "bars": {"bars"},
    "lake": {"bars", "lake"},
    "catalog": {"bars", "catalog"},
    "providers": {"bars", "providers", "guesses"},
    "defs": {"bars", "lake", "catalog", "providers", "defs", "config", "upkeep", "alerts", "reports"},
    "event_storage": {"event_storage"},
    "logs": {"providers"},
    "guesses": set[str](),
    "marked_yaml": set[str](),
    "amendment_files": {"marked_yaml", "bars"},
    "calendar_files": {"bars"},
    "reports": {"bars", "lake"},
    "run_launcher": set[str](),
    "upkeep": set[str](),
    "alerts": {"upkeep"},
    "config": {"marked_yaml", "amendment_files", "calendar_files", "upkeep", "guesses", "bars", "lake"},
}
"""Part → the parts it may import. Parts that are not named here are entry points, which may import all."""

ENTRY_POINTS = {"definitions", "as_of", "query", "metrics", "cli"}

ONLY_IN = {
    "dagster": (
        "defs/",
        "definitions.py",
        "metrics/",
        "cli/",
        "providers/base.py",
        "event_storage/",
        "run_launcher.py",
    ),
    "httpx": ("providers/http.py", "providers/browser.py", "alerts.py"),
    "curl_cffi": ("providers/browser.py",),
    "requests": (),
    "pandera": ("bars/contract.py",),
    "os.environ": ("config.py", "event_storage/"),  # Dagster loads that one, in processes of its own
    "os.getenv": ("config.py",),
}
"""What is imported or read in these places only."""

MODELS = {"Config", "Halt", "Listing", "Market", "Partition", "ProviderSettings", "Reconcile", "RuleSetting", "TieOut"}
"""What defs/ may take of config.py: the shape of a market, and nothing that reads the environment."""


class Use(NamedTuple):
    """`file` names `name` (a module, a name of a module, or an attribute such as os.environ)."""

    file: str
    name: str

    @property
    def part(self) -> str:
        return self.file.split("/")[0].removesuffix(".py")

    @property
    def used_part(self) -> str | None:
        """The part of our package that is used, if it is ours."""
        names = self.name.split(".")
        return names[1] if names[0] == PACKAGE and len(names) > 1 else None


def names_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(module=str(module), names=aliases, level=0):
            yield from (f"{module}.{alias.name}" for alias in aliases)
        case ast.ImportFrom():
            yield "a relative import"
        case ast.Attribute(value=ast.Name(id=str(owner)), attr=attribute):
            yield f"{owner}.{attribute}"


def uses() -> list[Use]:
    return [
        Use(path.relative_to(ROOT).as_posix(), name)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in names_of(node)
    ]


def modules_of(part: str) -> list[str]:
    """Every module below a part, or the part itself where it is one module; Alembic's scripts are run, not imported."""
    below = [file for file in sorted((ROOT / part).rglob("*.py")) if "migrations" not in file.parts]
    files = below or [ROOT / f"{part}.py"]
    names = (".".join((PACKAGE, *file.relative_to(ROOT).with_suffix("").parts)) for file in files)
    return [name.removesuffix(".__init__") for name in names]


def test_every_part_has_a_place_in_the_order() -> None:
    parts = {use.part for use in uses()}

    assert parts - {"__init__"} <= MAY_IMPORT.keys() | ENTRY_POINTS


def test_the_package_itself_imports_nothing() -> None:
    assert [use for use in uses() if use.file == "__init__.py"] == []


def test_no_part_imports_against_the_direction() -> None:
    against = [
        use
        for use in uses()
        if use.part in MAY_IMPORT and use.used_part is not None and use.used_part not in MAY_IMPORT[use.part]
    ]

    assert against == []


def test_defs_take_models_of_config_and_not_the_environment() -> None:
    taken = {
        use.name.removeprefix(f"{PACKAGE}.config.") for use in uses() if (use.part, use.used_part) == ("defs", "config")
    }

    assert taken <= MODELS


def test_a_provider_takes_only_the_resource_class_of_dagster() -> None:
    taken = {use.name for use in uses() if use.part == "providers" and use.name.split(".")[0] == "dagster"}

    assert taken <= {"dagster.ConfigurableResource"}


@pytest.mark.parametrize("name", ONLY_IN)
def test_what_belongs_in_one_place_is_used_nowhere_else(name: str) -> None:
    elsewhere = [
        use for use in uses() if f"{use.name}.".startswith(f"{name}.") and not use.file.startswith(ONLY_IN[name])
    ]

    assert elsewhere == []


@pytest.mark.parametrize("part", ["bars", "lake", "catalog", "config", "query"])
def test_reading_bars_does_not_import_dagster(part: str) -> None:
    assert "dagster" not in imported_with(modules_of(part))


def test_importing_the_configuration_is_quick() -> None:
    assert imported_with(modules_of("config")).isdisjoint({"polars", "pandas", "exchange_calendars", "pyarrow"})


HEAVY = {"alembic", "dagster", "duckdb", "exchange_calendars", "PIL", "pandas", "pandera", "rich", "sqlalchemy"}
"""Packages that cost a tenth of a second or more: each is imported where it is used."""


def test_help_of_the_command_needs_no_package_that_is_slow_to_import() -> None:
    shown = "from marketpipe_assets.cli.app import app; app(['--help'], standalone_mode=False)"

    assert imported_by(shown).isdisjoint({*HEAVY, "httpx", "numpy", "polars", "pyarrow"})


def test_load_bars_is_imported_with_polars_and_nothing_slower() -> None:
    imported = imported_by("import marketpipe_assets.query")

    assert imported.isdisjoint(HEAVY)


def test_the_code_location_loads_without_what_only_its_steps_need() -> None:
    loaded = imported_by("from marketpipe_assets.definitions import defs; defs()")

    assert loaded.isdisjoint({"alembic", "duckdb", "httpx", "PIL", "pandera", "yfinance"})


def imported_with(modules: list[str]) -> set[str]:
    """Top-level modules in memory after a fresh interpreter has imported these."""
    return imported_by(f"import {', '.join(modules)}")


def imported_by(script: str) -> set[str]:
    """Top-level modules in memory after a fresh interpreter has run this."""
    told = f"{script}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())
