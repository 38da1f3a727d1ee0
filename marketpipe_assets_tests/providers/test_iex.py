"""The name `iex` is Alpaca's feed, says so, and refuses what was IEX Cloud's."""

from pathlib import Path

import pytest

from marketpipe_assets.providers import create
from marketpipe_assets.providers.alpaca import AlpacaProvider
from marketpipe_assets_tests.providers import test_alpaca
from marketpipe_assets_tests.providers.contract import END, START, rows
from marketpipe_assets_tests.providers.vendor_server import vendor_server


@pytest.mark.filterwarnings("ignore:provider iex")
class TestIex(test_alpaca.TestAlpacaStocks):
    kind = "iex"


def test_the_name_says_what_it_is_now() -> None:
    with pytest.warns(UserWarning, match=r"closed on 2024-08-31.*from Alpaca, feed iex; write `type: alpaca`"):
        provider = create("iex", "iex", {})

    assert isinstance(provider, AlpacaProvider)
    assert provider.feed == "iex"


@pytest.mark.parametrize("setting", [{"token": "pk_1"}, {"is_sandbox": "false"}, {"token": "pk_1", "feed": "iex"}])
def test_settings_of_iex_cloud_are_refused_with_what_to_use_instead(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"provider old: .*closed on 2024-08-31: use `type: alpaca`.*`type: tiingo`"):
        create("old", "iex", setting)


def test_a_token_that_is_refused_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="closed") as raised:
        create("old", "iex", {"token": "pk_canary"})

    assert "pk_canary" not in str(raised.value)


def test_the_whole_tape_is_not_to_be_had_by_this_name() -> None:
    with pytest.raises(ValueError, match="feed: expected 'iex', was 'sip'"):
        create("iex", "iex", {"feed": "sip"})


@pytest.mark.filterwarnings("ignore:provider iex")
def test_bars_carry_the_name_of_the_block_and_the_feed(tmp_path: Path) -> None:
    with vendor_server() as server:
        server.vendor = lambda seen: test_alpaca.page_of({"ACME": rows(1)}, seen, 10)

        bars = TestIex().provider(server, tmp_path).minute_bars(["ACME"], START, END)

    assert server.seen[0].params["feed"] == "iex"
    assert bars.select("provider", "feed").rows() == [("iex", "iex")]
