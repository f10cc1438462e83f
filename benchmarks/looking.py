"""How long it takes to list 10,000 runs, and to draw one run of a million rows: `python benchmarks/looking.py`.

The first read goes through the journals. Those after it are what somebody waits for who looks at runs all day: the aims are 2 s for the list and 1 s for the picture.
Times on the clock depend on what else the machine does, so the processor's time stands beside them, and the load.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fsdl_course.tracking.journal import Journal, line_of
from fsdl_course.tracking.looking import curves, runs


def start_of(name: str) -> dict:
    "What a run's journal begins with."
    return {"name": name, "project": "p", "attempt": 1, "config": {"lr": 0.1}, "group": None, "job_type": None, "tags": [], "notes": None, "environment": {}}


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    "Seconds on the clock, and of the processor, that an action takes."
    clock, used = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - clock, time.process_time() - used


def many(folder: Path, count: int) -> None:
    "Runs of one row each."
    for number in range(count):
        with Journal(folder / f"r{number:05}" / "journal.jsonl") as journal:
            journal.write("start", **start_of(f"run {number}"))
            journal.write("row", step=0, values={"loss": 1 / (number + 1)})
            journal.write("finish", exit_code=0, error=None)


def long(folder: Path, rows: int) -> None:
    "One run of many rows."
    path = folder / "long" / "journal.jsonl"
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        file.write(line_of(0, 1.0, "start", start_of("long")))
        file.writelines(line_of(step + 1, 1.0 + step, "row", {"step": step, "values": {"loss": math.sin(step)}}) for step in range(rows))
        file.write(line_of(rows + 1, 2.0 + rows, "finish", {"exit_code": 0, "error": None}))


def measured(what: str, action: Callable[[], object], again: int) -> None:
    "Print the first time, and the median and the least of those after it."
    first, after = seconds(action), [seconds(action) for _ in range(again)]
    clock, used = zip(*after)
    print(f"| {what} | {first[0]:.2f} ({first[1]:.2f}) | {statistics.median(clock):.2f} ({statistics.median(used):.2f}) | {min(clock):.2f} |", flush=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=10_000)
    asked.add_argument("--rows", type=int, default=10**6)
    asked.add_argument("--again", type=int, default=9, help="how often after the first read")
    asked.add_argument("--save", action="store_true", help="taken, as by the other benchmarks, and saves nothing: there is no library beside it")
    given = asked.parse_args()
    print("| what | first read, s (processor) | after it, median, s (processor) | least, s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        many(Path(place), given.runs)
        measured(f"{given.runs:,} runs listed", lambda: runs(place), given.again)
    with tempfile.TemporaryDirectory() as place:
        long(Path(place), given.rows)
        measured(f"{given.rows:,} rows of one run drawn", lambda: curves(["long"], "loss", dir=place), given.again)
        measured("the same, smoothed", lambda: curves(["long"], "loss", weight=0.6, dir=place), given.again)
    print(f"\nLoad in the last 1, 5 and 15 minutes: {', '.join(f'{load:.1f}' for load in os.getloadavg())}, on {os.cpu_count()} processors.")


if __name__ == "__main__":
    main()
