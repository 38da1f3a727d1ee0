"""`marketpipe migrate`: bring the catalogue to the tables of this release."""

import typer

from marketpipe_assets.cli.options import ConfigOption, configuration
from marketpipe_assets.cli.outcome import catalogue


def migrate(config: ConfigOption = None) -> None:
    """Bring the catalogue to the tables of this release, and make it where there is none.

    Runs do the same when they first need it; a deployment does it once, before anything else starts. Files of the lake
    need no migration.
    """
    from marketpipe_assets.catalog.store import Catalog

    catalog = Catalog(configuration(config).catalog_url)
    where = catalog.url.render_as_string(hide_password=True)
    with catalogue():
        before = catalog.revision()
        catalog.migrate()
        after = catalog.revision()
    typer.echo(f"{where} is at {after}" + ("" if before == after else f", was at {before or 'nothing'}"))
