"""Writers that are killed, that meet, or that find the disk full lose nothing that was stored."""

import random
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from marketpipe_assets.lake.layout import locks_of
from marketpipe_assets.lake.parquet import LakeError, locked, read_file
from marketpipe_assets.lake.scan import read_bars
from marketpipe_assets_tests.faults import (
    MINUTES,
    PATIENCE,
    damaged_files,
    kill_writer,
    left_over,
    processes,
    write_rounds,
)
from marketpipe_assets_tests.lake.rows import MARKET, TUESDAY, WEDNESDAY, bars_of, path_of, store

CONTEXT: SpawnContext = get_context("spawn")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of 256 kB cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_the_earlier_bars_and_says_so(small_disk: Path) -> None:
    lake = small_disk / "lake"
    store(lake, bars_of("AAPL", TUESDAY))
    seeded = random.Random(1)
    too_many = bars_of("AAPL", TUESDAY, [seeded.random() for _ in range(50_000)])

    with pytest.raises(LakeError, match=r"no space left on the disk while writing .*AAPL/2024-01\.parquet"):
        store(lake, too_many)

    assert_frame_equal(read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY]), bars_of("AAPL", TUESDAY))
    assert left_over(lake) == 0


def test_after_a_full_disk_what_fits_can_be_written(small_disk: Path) -> None:
    lake = small_disk / "lake"
    hog = small_disk / "hog"
    hog.write_bytes(bytes(200_000))
    seeded = random.Random(1)
    bars = bars_of("AAPL", TUESDAY, [seeded.random() for _ in range(3_000)])
    with pytest.raises(LakeError):
        store(lake, bars)

    hog.unlink()
    store(lake, bars)

    assert_frame_equal(read_bars(lake, MARKET, "bars_1m", ["AAPL"], [TUESDAY]), bars)


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1])
def test_a_killed_writer_loses_nothing_it_had_stored(lake: Path, moment: float) -> None:
    killed = kill_writer(lake, moment)

    assert killed.done > 0
    assert killed.problems == []


def hold_lock(lake: Path, held: Connection) -> None:
    with locked([path_of(lake, "AAPL")], locks_of(lake)):
        held.send(None)
        held.recv()


def test_a_killed_holder_lets_go_of_its_lock(lake: Path) -> None:
    ours, theirs = CONTEXT.Pipe()
    (holder,) = processes((hold_lock, (lake, theirs)))
    ours.recv()

    holder.kill()
    holder.join(PATIENCE)

    store(lake, bars_of("AAPL", TUESDAY))
    assert damaged_files(lake) == []


def test_two_processes_that_write_days_of_one_month_lose_neither(lake: Path) -> None:
    days = [TUESDAY + timedelta(days=number) for number in range(6)]

    both = processes(*((write_rounds, (lake, half, range(1, 6))) for half in (days[::2], days[1::2])))
    for process in both:
        process.join(PATIENCE)

    stored = read_bars(lake, MARKET, "bars_1m", ["AAPL"], days)
    assert stored.group_by("session_date", maintain_order=True).len()["len"].to_list() == [MINUTES] * 6
    assert stored["open"].unique().to_list() == [5.0]


def test_two_processes_that_write_the_same_day_store_one_answer_and_never_a_mix(lake: Path) -> None:
    path = path_of(lake, "AAPL")
    numbers = [range(1, 40, 2), range(2, 41, 2)]
    seen = []

    both = processes(*((write_rounds, (lake, [WEDNESDAY], each)) for each in numbers))
    while any(process.is_alive() for process in both):
        if (bars := read_file(path, ["open"])) is not None:
            seen.append(bars["open"].to_pylist())

    assert seen
    assert all(len(prices) == MINUTES and len(set(prices)) == 1 for prices in seen)
    assert set(seen[-1]) <= {39.0, 40.0}
    assert damaged_files(lake) == []
