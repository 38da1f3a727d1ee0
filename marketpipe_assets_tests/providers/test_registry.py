"""A provider block of the configuration becomes a provider, or an error that says which option was wrong."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from marketpipe_assets.providers import PROVIDERS, create, provider_class, provider_names
from marketpipe_assets.providers.base import BarProvider
from marketpipe_assets.providers.synthetic import SyntheticProvider


@pytest.fixture
def acme_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An installed package of other people, with a provider, a class that is none, and a name that leads nowhere."""
    package = tmp_path / "acme_bars.py"
    package.write_text(
        "from marketpipe_assets.providers.base import BarProvider\n"
        "class AcmeProvider(BarProvider):\n"
        "    depth: int = 1\n"
        "    raw: bool = True\n"
        "    def minute_bars(self, symbols, start, end): ...\n"
    )
    info = tmp_path / "acme_bars-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme_bars\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[marketpipe.providers]\n"
        "acme = acme_bars:AcmeProvider\n"
        "text = acme_bars:__name__\n"
        "gone = acme_bars:Gone\n"
        "synthetic = acme_bars:AcmeProvider\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "acme"
    sys.modules.pop("acme_bars", None)


@pytest.mark.parametrize(
    ("name", "days", "requests"),
    [
        ("tiingo", 5, 2 * 5),  # a day each
        ("yahoo", 17, 2 * 3),  # at most eight days
        ("finnhub", 31, 2 * 2),  # at most thirty
        ("massive", 62, 2 * 2),  # at most 31, and 50,000 bars
        ("binance", 1, 2 * 2),  # pages of 1,000 bars
        ("alpaca", 5, 2),  # both symbols, 10,000 bars a page
    ],
)
def test_requests_are_counted_by_page_and_window(name: str, days: int, requests: int) -> None:
    able = provider_class(name).capabilities

    assert able.requests_for(2, days * 24 * 60, timedelta(days=days)) == requests


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_name_leads_to_a_provider(name: str) -> None:
    assert issubclass(provider_class(name), BarProvider)


def test_fake_is_an_earlier_name_of_synthetic() -> None:
    assert provider_class("fake") is SyntheticProvider


def test_listing_names_imports_no_provider() -> None:
    script = "import sys, marketpipe_assets.providers as p; p.provider_names(); print('dagster' in sys.modules)"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"


def test_settings_are_converted_from_text() -> None:
    provider = create(
        "demo",
        "synthetic",
        {"volatility": "0.03", "seed": "7", "extended_hours": ["04:00", "20:00"], "faults": {"halt": "0.5"}},
    )

    assert provider == SyntheticProvider(
        name="demo", volatility=0.03, seed=7, extended_hours=["04:00", "20:00"], faults={"halt": 0.5}
    )


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("synthetc", {}, r"demo: expected a provider of .*files, .*did you mean synthetic\?.*, was 'synthetc'"),
        ("synthetic", {"volatilty": "1"}, r"provider demo: volatilty: .* \(did you mean volatility\?\)"),
        ("synthetic", {"volatility": "high"}, "provider demo: volatility: expected a number, .*, was 'high'"),
        ("synthetic", {"base_price": "0"}, "provider demo: base_price: expected greater than 0, was '0'"),
        ("synthetic", {"seed": None}, "provider demo: seed: expected a.* integer, was None"),
        ("synthetic", {"faults": {"halt": "x"}}, "provider demo: faults.halt: expected a number, .*, was 'x'"),
        ("synthetic", {"faults": {"lost": "1"}}, "provider demo: faults: expected missing_minutes, .*, was lost"),
        ("synthetic", {"asset_class": "stock"}, "provider demo: asset_class: expected one of .*, was 'stock'"),
        ("synthetic", {"name": "other"}, "provider demo: name: expected an option of"),
        ("files", {"format": "lean"}, "provider demo: expected root, was missing"),
    ],
)
def test_an_error_names_the_block_the_option_and_what_it_was(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create("demo", kind, options)


def test_a_provider_of_another_package_is_found_by_its_entry_point(acme_bars: str) -> None:
    provider = create("theirs", acme_bars, {"depth": "3", "raw": "false"})

    assert acme_bars in provider_names()
    assert type(provider).__name__ == "AcmeProvider"
    assert provider.model_dump() == {"depth": 3, "raw": False}


@pytest.mark.usefixtures("acme_bars")
def test_our_names_are_not_replaced_by_another_package() -> None:
    assert provider_class("synthetic") is SyntheticProvider


@pytest.mark.usefixtures("acme_bars")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "expected text to be a subclass of BarProvider, was 'acme_bars'"),
        ("gone", "expected acme_bars:Gone of another package to load"),
    ],
)
def test_an_entry_point_that_is_no_provider_is_an_error(kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        provider_class(kind)
