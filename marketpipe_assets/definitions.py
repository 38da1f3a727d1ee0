"""The code location Dagster loads: one line per market, plus resources."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg

from marketpipe_assets.alerts import Messenger
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Config, ProviderSettings, environment, load_config, secrets_of_environment
from marketpipe_assets.defs.alerting import alerts_sensor
from marketpipe_assets.defs.io_manager import LakeIOManager
from marketpipe_assets.defs.market import market_definitions
from marketpipe_assets.defs.new_files import Drop, new_files_sensor
from marketpipe_assets.defs.partitions import Grid, grid_of
from marketpipe_assets.logs import Formatter, use_in_dagster
from marketpipe_assets.providers import create, provider_class
from marketpipe_assets.providers.base import BarProvider
from marketpipe_assets.providers.files import FilesProvider

MAIL_VARIABLE = "MARKETPIPE_SMTP_PASSWORD"


@dg.definitions
def defs() -> dg.Definitions:
    """Every market of the configuration found. Loading them gives this process the format of its logs."""
    config = load_config()
    providers = {name: market.provider for name, market in config.markets.items()}
    use_in_dagster(Formatter(config.log.format, secrets_of_environment(), providers), config.log.level)
    return definitions_of(config)


def definitions_of(config: Config) -> dg.Definitions:
    """Every market of a configuration: its assets, checks and jobs, with providers and the lake as resources."""
    catalog = Catalog(config.catalog_url)
    grids = {name: grid_of(market, catalog) for name, market in config.markets.items()}
    check_tie_outs(config)
    return dg.Definitions.merge(
        *(market_definitions(grid) for grid in grids.values()),
        dg.Definitions(
            sensors=[alerts_sensor(config.markets, messenger_of(config)), *_drop_sensors(config, grids)],
            resources={
                **{name: provider_of(name, each) for name, each in config.providers.items()},
                "lake": config.lake,
                "catalog": catalog,
                "reports": config.reports,
                "io_manager": LakeIOManager(config.lake, grids, catalog),
            },
            executor=dg.in_process_executor,
        ),
    )


def check_tie_outs(config: Config) -> None:
    """Raise `ValueError` where a market is to be compared with daily bars that its provider does not give."""
    for name, market in config.markets.items():
        if market.tie_out is None:
            continue
        kind = config.providers[market.tie_out.provider].type
        if not provider_class(kind).capabilities.daily_bars:
            raise ValueError(f"{name}: tie_out: expected a provider that gives daily bars, was {kind}")


def _drop_sensors(config: Config, grids: Mapping[str, Grid]) -> Iterator[dg.SensorDefinition]:
    for grid in grids.values():
        for name in grid.market.providers:
            provider = provider_of(name, config.providers[name])
            if isinstance(provider, FilesProvider):
                yield new_files_sensor(grid, Drop(name, Path(provider.root), provider.symbols))


def messenger_of(config: Config) -> Messenger:
    """The channels of alerts, with the mail server's password from the environment."""
    return Messenger(config.alerts, environment([MAIL_VARIABLE]).get(MAIL_VARIABLE))


def provider_of(name: str, settings: ProviderSettings) -> BarProvider:
    """The provider of a block, with its secrets from the environment."""
    secrets = environment(provider_class(settings.type).capabilities.variables)
    return create(name, settings.type, settings.options, secrets, settings.places)
