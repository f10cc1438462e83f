"""What a row costs the training: `track`, with W&B underneath and each row safe in the journal, beside W&B alone and other trackers.

All trackers log the same rows in turn in one process; a row of three numbers, in groups of 20 rows, a millisecond between two rows as a quick training step would take.
Only what the caller waits for is timed. With `--faults` it prints, instead, how many of 200 rows each tracker keeps when something breaks (some minutes).
"""
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import Line, parser, print_table, save

from fsdl_course.tracking import track
from fsdl_course.tracking.trackers import TRACKERS, example_rows, try_faults, version

ROWS = 20
OTHERS = ("wandb", "tensorboard", "mlflow", "trackio")  # Comet and Neptune change the process that they are in


class Ours:
    "A run of `track`, with W&B underneath."

    def __init__(self, folder: Path):
        self.run = track("ours", dir=folder, mode="offline", every=0)

    def log(self, row: dict, step: int) -> None:
        self.run.log(row, step=step)

    def close(self) -> None:
        self.run.finish()


def taken(tracker: object, number: int) -> float:
    "Seconds of a call of log, over some rows."
    seconds = 0.0
    for step in range(number * ROWS, (number + 1) * ROWS):
        row = {name: value for name, value in example_rows(1)[0].items() if name != "_step"}
        begun = time.perf_counter()
        tracker.log(row, step)
        seconds += time.perf_counter() - begun
        time.sleep(0.001)
    return seconds / ROWS


def lines(pairs: int) -> Iterator[Line]:
    "One for each tracker that is installed here."
    for name in (name for name in OTHERS if all(importlib.util.find_spec(package) for package in TRACKERS[name].needs)):
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "other").mkdir()
            sides = [Ours(Path(place) / "ours"), TRACKERS[name](Path(place) / "other", {"lr": 0.1})]
            seconds = []
            for number in range(pairs + 4):
                took = {side: taken(side, number) for side in sides[:: -1 if number % 2 else 1]}
                seconds.append(tuple(took[side] for side in sides))
            for side in sides:
                side.close()
            yield Line.of("a row", f"{name} {version(name)}", seconds[4:])


if __name__ == "__main__":
    arguments = parser(__doc__, pairs=60)
    arguments.add_argument("--faults", action="store_true", help="count the rows that each tracker keeps when something breaks")
    options = arguments.parse_args()
    if options.faults:
        installed = [name for name, tracker in TRACKERS.items() if all(importlib.util.find_spec(package) for package in tracker.needs)]
        print(try_faults(installed))
    else:
        table = print_table(lines(options.pairs), "other")
        if options.save:
            save("tracking", "trackers", table)
