"""The script that the product is measured against does the product's work."""

from pathlib import Path

import pytest

from marketpipe_assets_tests.bench import functions, script
from marketpipe_assets_tests.bench.case import MARKET, Case
from marketpipe_assets_tests.bench.compare import differences
from marketpipe_assets_tests.bench.measure import Cost, best
from marketpipe_assets_tests.bench.pipeline import DifferentWorkError, Row, refuse_different

CLEAN = Case(symbol_count=2, session_count=3)
ONE_OF_EACH = Case(
    symbol_count=2,
    session_count=25,  # two months
    faults=dict.fromkeys(
        (
            "missing_minutes",
            "duplicate",
            "conflicting_duplicate",
            "out_of_order",
            "ohlc_logic",
            "negative_volume",
            "non_positive_price",
            "not_finite",
            "misaligned_ts",
            "price_jump",
            "bad_tick",
            "stale",
            "zero_volume_run",
            "zero_volume_move",
            "huge_volume",
            "vwap_range",
            "missing_session",
        ),
        0.5,
    ),
)


def run_both(case: Case, folder: Path) -> tuple[Path, Path]:
    hours = script.hours_of(case.sessions.table, case.sessions.timezone)
    script.pipeline(case.vendor_bars, hours, folder / "script" / MARKET)
    functions.pipeline(case, folder / "functions")
    return folder / "script", folder / "functions"


@pytest.mark.parametrize("case", [CLEAN, ONE_OF_EACH], ids=["clean bars", "bars with faults"])
def test_script_and_functions_write_the_same_files(case: Case, tmp_path: Path) -> None:
    by_script, by_functions = run_both(case, tmp_path)

    assert differences(by_script, by_functions) == []


def test_a_session_has_390_bars() -> None:
    assert CLEAN.vendor_bars.height == 390 * CLEAN.symbol_days


def test_every_table_is_written_where_bars_have_faults(tmp_path: Path) -> None:
    by_script, _ = run_both(ONE_OF_EACH, tmp_path)

    assert {table.name for table in (by_script / MARKET).iterdir()} == {
        "raw_bars_1m",
        "bars_1m",
        "quarantined_bars_1m",
        "bars_5m",
        "bars_15m",
        "bars_1h",
        "bars_1d",
    }


def test_a_changed_price_is_a_difference(tmp_path: Path) -> None:
    by_script, by_functions = run_both(CLEAN, tmp_path)
    other = CLEAN.model_copy(update={"faults": {"bad_tick": 1}})
    script.pipeline(
        other.generated(), script.hours_of(other.sessions.table, other.sessions.timezone), by_script / MARKET
    )

    found = differences(by_script, by_functions)

    assert any("raw_bars_1m" in line and "high" in line for line in found)


def test_a_missing_file_and_an_empty_lake_are_differences(tmp_path: Path) -> None:
    by_script, by_functions = run_both(CLEAN, tmp_path)
    (by_functions / MARKET / "bars_1d" / "symbol=S00" / "2024.parquet").unlink()

    assert differences(by_script, by_functions) == [
        f"{Path(MARKET, 'bars_1d', 'symbol=S00', '2024.parquet')} is in one of the two only"
    ]
    assert differences(tmp_path / "nowhere", tmp_path / "nowhere") == [f"{tmp_path / 'nowhere'} holds no files"]


def test_lakes_that_differ_are_not_compared_in_time(tmp_path: Path) -> None:
    by_script, by_functions = run_both(CLEAN, tmp_path)
    (by_functions / MARKET / "bars_1d" / "symbol=S00" / "2024.parquet").unlink()

    with pytest.raises(DifferentWorkError, match="1 files differ"):
        refuse_different(by_script, by_functions)


def test_results_are_by_symbol_day_and_their_ratio_is_to_the_script() -> None:
    row = Row("pipeline_functions_vs_script", CLEAN, cost=Cost(0.012, 0.006), script=Cost(0.006, 0.004))

    assert [entry.written() for entry in row.entries()] == [
        {"name": "pipeline_functions_vs_script", "value": 2.0, "unit": "ms CPU per symbol-day", "ratio": 2.0},
        {"name": "pipeline_functions_vs_script_wall", "value": 1.0, "unit": "ms wall per symbol-day", "ratio": 1.5},
    ]


def test_the_best_of_several_repetitions_is_the_least_of_each_figure() -> None:
    assert best([Cost(cpu=2, wall=5), Cost(cpu=3, wall=4)]) == Cost(cpu=2, wall=4)
