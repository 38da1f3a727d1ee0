"""The order of a market's symbols: read without a catalogue, kept once, and only added to."""

import pytest

from marketpipe_assets.catalog.groups import keep_order, order_of
from marketpipe_assets.catalog.store import Catalog


def test_without_a_catalogue_the_order_is_that_of_names_and_nothing_is_made(catalog: Catalog) -> None:
    assert order_of(catalog, "shares", ["BOLT", "ACME"]) == ["ACME", "BOLT"]
    assert catalog.revision() is None


def test_new_symbols_stand_after_those_that_were_kept_retired_ones_among_them(catalog: Catalog) -> None:
    keep_order(catalog, "shares", ["BOLT", "DUNE"], 2)

    assert order_of(catalog, "shares", ["ACME", "CASK", "DUNE"]) == ["BOLT", "DUNE", "ACME", "CASK"]
    assert order_of(catalog, "coins", ["ACME"]) == ["ACME"]


def test_keeping_twice_changes_nothing_and_later_ones_are_added(catalog: Catalog) -> None:
    for order in (["BOLT"], ["BOLT"], ["BOLT", "ACME"]):
        keep_order(catalog, "shares", order, 2)

    assert order_of(catalog, "shares", []) == ["BOLT", "ACME"]


def test_a_place_that_is_taken_is_not_given_again(catalog: Catalog) -> None:
    keep_order(catalog, "shares", ["ACME", "BOLT"], 2)

    with pytest.raises(ValueError, match="expected groups of shares that begin with ACME, BOLT, was AARD, ACME"):
        keep_order(catalog, "shares", ["AARD", "ACME", "BOLT"], 2)

    assert order_of(catalog, "shares", []) == ["ACME", "BOLT"]
