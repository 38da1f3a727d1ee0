"""The code location Dagster loads: one line per market, plus resources."""

import warnings

import dagster as dg

from marketpipe_assets.config import load_config
from marketpipe_assets.defs.io_manager import LakeIOManager
from marketpipe_assets.defs.market import market_definitions
from marketpipe_assets.providers import create


@dg.definitions
def defs() -> dg.Definitions:
    """Every market of the configuration."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)  # one a backfill policy, on every load
    config = load_config()
    markets = config.markets.values()
    return dg.Definitions.merge(
        *(market_definitions(market) for market in markets),
        dg.Definitions(
            resources={
                **{name: create(name, each.type, each.options) for name, each in config.providers.items()},
                "lake": config.lake,
                "io_manager": LakeIOManager(config.lake, {market.name: market.sessions for market in markets}),
            },
            executor=dg.in_process_executor,
        ),
    )
