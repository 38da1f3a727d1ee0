"""Between Dagster and the lake: an asset's partitions of a run are one frame."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl

from marketpipe_assets.bars.schema import RAW
from marketpipe_assets.catalog.restatements import record_restatements
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.config import Market
from marketpipe_assets.defs.metadata import FETCHED_AT, MAY_SHRINK, add_figures, bars_metadata, restated_metadata
from marketpipe_assets.defs.partitions import Grid, Selection, check_size
from marketpipe_assets.defs.retention import spared
from marketpipe_assets.lake.facts import Fetch, Publication
from marketpipe_assets.lake.merge import as_stored, write_bars
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets.lake.shrink import SHRUNK
from marketpipe_assets.lake.superseded import RESTATEMENTS


class LakeIOManager(dg.IOManager):
    """Stores and loads bars of asset key `[market, table]`, all partitions of the run in one call.

    A session's partition also holds the bars of the closed days that lead up to it. Minute bars that a run has stored
    are handed to its next steps in the same process as they are; whoever else asks reads the lake.
    """

    def __init__(self, lake: Path, grids: Mapping[str, Grid], catalog: Catalog) -> None:
        self._lake = lake
        self._grids = grids
        self._catalog = catalog
        self._stored: dict[str, _Stored] = {}
        self.shrunk = pl.DataFrame(schema=dict(SHRUNK))
        """Symbol-days of the last raw bars stored of which fewer minutes were fetched than were stored before."""

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        market, table = context.asset_key.path
        grid, keys = self._grids[market], context.asset_partition_keys
        symbols, dates = grid.selection(keys, context.step_context.dagster_run)
        owned = grid.market.sessions.owned_dates(dates)
        bars = as_stored(table, obj)
        fetch = _fetch(context, grid.market, dates)
        old = spared(self._catalog, self._lake, grid.market, table, symbols, owned)
        written = write_bars(self._lake, market, table, bars, symbols, owned, fetch, old)
        if old or (fetch is not None and written.shrunk and not fetch.may_shrink):
            bars = read_bars(self._lake, market, table, symbols, owned)
        self._keep(table, _Stored(context.run_id, market, Selection(symbols, dates), bars))
        figures = bars_metadata(bars, symbols, dates, self._lake / market / table, written)
        add_figures(context.step_context, context.asset_key, keys, figures)
        if table == RAW:
            self.shrunk = pl.DataFrame(written.shrunk, schema=dict(SHRUNK), orient="row")
            restated = pl.DataFrame(written.restated, schema=dict(RESTATEMENTS), orient="row")
            add_figures(context.step_context, context.asset_key, keys, restated_metadata(restated))
            if not restated.is_empty():
                with self._catalog.begin() as connection:
                    record_restatements(connection, market, restated)

    def load_input(self, context: dg.InputContext) -> pl.DataFrame:
        market, table = context.asset_key.path
        grid = self._grids[market]
        selection = grid.selection(context.asset_partition_keys, context.step_context.dagster_run)
        check_size(grid.market, selection, "aggregate")
        stored = self._stored.get(table)
        if stored is not None and stored[:3] == (context.step_context.run_id, market, selection):
            return stored.bars
        owned = grid.market.sessions.owned_dates(selection.dates)
        return read_bars(self._lake, market, table, selection.symbols, owned)

    def _keep(self, table: str, stored: "_Stored") -> None:
        """Bars of an earlier run make room, so that no more is held than a run's own steps ask for at once."""
        self._stored = {name: each for name, each in self._stored.items() if each.run_id == stored.run_id}
        if table in HANDED and list(stored.selection.symbols) == sorted(stored.selection.symbols):
            self._stored[table] = stored


HANDED = (RAW, "bars_1m", "quarantined_bars_1m")
"""Tables that later steps of a run load; longer bars are only stored."""


class _Stored(NamedTuple):
    """What a run has stored of one table."""

    run_id: str
    market: str
    selection: Selection
    bars: pl.DataFrame


def _fetch(context: dg.OutputContext, market: Market, dates: Sequence[date]) -> Fetch | None:
    """Where the output comes from, if a provider was asked for it."""
    asked_at = context.output_metadata.get(FETCHED_AT)
    if not isinstance(asked_at, dg.TimestampMetadataValue):
        return None
    delay = market.evidence.publication_delay
    publications = {day: Publication(*rest) for day, *rest in market.sessions.publication(dates, delay).iter_rows()}
    at, may_shrink = datetime.fromtimestamp(asked_at.value, UTC), MAY_SHRINK in context.output_metadata
    return Fetch(at, context.run_id, dates, publications, may_shrink)
