"""`marketpipe migrate`: bring the catalogue to the tables of this release."""

import typer

from marketpipe_assets.cli.options import ConfigOption, configuration
from marketpipe_assets.cli.outcome import RunTimeError, one_line


def migrate(config: ConfigOption = None) -> None:
    """Bring the catalogue to the tables of this release, and make it where there is none.

    Runs do the same when they first need it; a deployment does it once, before anything else starts. Files of the lake
    need no migration.
    """
    import sqlalchemy as sa

    from marketpipe_assets.catalog.store import Catalog, CatalogError

    catalog = Catalog(configuration(config).catalog_url)
    where = catalog.url.render_as_string(hide_password=True)
    try:
        before = catalog.revision()
        catalog.migrate()
    except (CatalogError, sa.exc.SQLAlchemyError, OSError) as error:
        raise RunTimeError(one_line(str(error))) from error
    after = catalog.revision()
    typer.echo(f"{where} is at {after}" + ("" if before == after else f", was at {before or 'nothing'}"))
