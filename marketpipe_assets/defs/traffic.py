"""What a run asks its providers, written to the catalogue."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from marketpipe_assets.catalog.counts import Asked, add_requests
from marketpipe_assets.catalog.store import Catalog
from marketpipe_assets.providers.base import BarProvider
from marketpipe_assets.providers.http import HttpProvider


@contextmanager
def traffic_recorded(
    catalog: Catalog, run_id: str, market: str, providers: Mapping[str, BarProvider]
) -> Iterator[None]:
    """Write it when the context ends, also where an answer fails. A step that is tried again counts on."""
    try:
        yield
    finally:
        asked = [
            _asked(name, provider)
            for name, provider in providers.items()
            if isinstance(provider, HttpProvider) and provider.traffic.requests
        ]
        if asked:
            with catalog.begin() as connection:
                for each in asked:
                    add_requests(connection, run_id, market, each)


def _asked(name: str, provider: HttpProvider) -> Asked:
    traffic = provider.traffic
    return Asked(
        provider=name,
        feed=provider.feed_asked,
        requests=traffic.requests,
        errors=traffic.errors,
        latency=traffic.histogram,
        latency_sum=traffic.latency_sum,
        waits={mode.value: count for mode, count in traffic.waits.items()},
        waited=traffic.waited,
        bytes=traffic.bytes,
    )
