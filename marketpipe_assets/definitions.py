"""The code location Dagster loads: one line per market, plus resources."""

import dagster as dg

from marketpipe_assets.config import Config, load_config
from marketpipe_assets.defs.io_manager import LakeIOManager
from marketpipe_assets.defs.market import market_definitions
from marketpipe_assets.providers import create


@dg.definitions
def defs() -> dg.Definitions:
    """Every market of the configuration found."""
    return definitions_of(load_config())


def definitions_of(config: Config) -> dg.Definitions:
    """Every market of a configuration: its assets, checks and jobs, with providers and the lake as resources."""
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
