"""The rules find the faults that are there, and little else."""

import pytest

from marketpipe_assets_tests.detection import FOUND_BY, Detection, detection

SYMBOLS, SESSIONS = 6, 20


@pytest.fixture(scope="module")
def shares() -> Detection:
    return detection(SYMBOLS, SESSIONS, rate=0.3)


@pytest.mark.parametrize("fault", FOUND_BY)
def test_every_fault_of_a_kind_is_found_and_what_its_rule_finds_is_one(shares: Detection, fault: str) -> None:
    (score,) = (each for each in shares.scores if each.fault == fault)

    assert score.faults > 20
    assert score.recall >= (0.95 if fault == "wick" else 1)
    assert score.precision >= (0.98 if fault == "wick" else 1)


def test_no_error_and_no_warning_lacks_a_fault(shares: Detection) -> None:
    assert shares.symbol_days == SYMBOLS * SESSIONS
    assert shares.unexplained.height <= shares.symbol_days / 100


@pytest.mark.parametrize(("asset_class", "calendar"), [("crypto", "24/7"), ("future", "CME_GLOBEX"), ("index", "XNYS")])
def test_limits_of_other_asset_classes_find_nearly_all_as_well(asset_class: str, calendar: str) -> None:
    found = detection(3, 8, 1, asset_class, calendar)

    missed = {score.fault for score in found.scores if score.recall < 0.9 or score.precision < 0.98}
    assert missed <= MISSED.get(asset_class, set())


MISSED = {"crypto": {"bad_tick", "stale"}, "future": {"bad_tick"}}
"""By choice of the limits: coins crash by the thousandfold and stand still for an hour, futures may be near zero."""
