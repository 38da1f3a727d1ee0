"""Read the same bars from ArcticDB. Run by a Python that has arcticdb, which needs other pandas than ours.

`python arctic.py FOLDER` takes FOLDER/plan.json, a list of {name, files, first, end}: Parquet files, one per symbol,
and the half-open span of instants that is read. It prints name → least CPU and wall seconds, and the rows read, as
JSON. Bars are read into polars frames, several symbols in one batch.
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
from arcticdb import Arctic
from arcticdb.version_store.library import ReadRequest

TURNS = 10


def main(folder: Path) -> None:
    store = Arctic(f"lmdb://{folder / 'arctic'}?map_size=4GB")
    library = store.create_library("bars")
    measured = {}
    for read in json.loads((folder / "plan.json").read_text(encoding="utf-8")):
        names = [f"{read['name']}-{number}" for number in range(len(read["files"]))]
        for name, file in zip(names, read["files"], strict=True):
            library.write(name, pd.read_parquet(file).set_index("ts"))
        span = tuple(datetime.fromisoformat(read[bound]) for bound in ("first", "last"))
        requests = [ReadRequest(name, date_range=span, output_format="POLARS") for name in names]
        costs = []
        for _ in range(TURNS):
            wall, cpu = time.perf_counter(), time.process_time()
            found = library.read_batch(requests, output_format="POLARS")
            costs.append((time.process_time() - cpu, time.perf_counter() - wall))
        rows = sum(len(each.data) for each in found)
        measured[read["name"]] = (*(min(each) for each in zip(*costs, strict=True)), rows)
    print(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
