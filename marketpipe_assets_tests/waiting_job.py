"""A job whose run waits in its worker until it is told to end."""

import time
from pathlib import Path

import dagster as dg


@dg.op(config_schema={"until": str})
def wait(context: dg.OpExecutionContext) -> None:
    """Until the file is there."""
    while not Path(context.op_config["until"]).exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def waiting() -> None:
    wait()
