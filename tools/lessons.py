"""Run the learner's copy of every lesson, exercises unsolved, from top to bottom in a real kernel: `python -m tools.lessons [nbs/... | all]`.

A copy must end without an error, keep every output that the original has (but for the learner's own guesses, answers and verdicts), and refer to no file, test
or cell that was not handed out. Lessons that measure time run alone, all others two at a time. A copy that fails is tried once more, alone, and
both outcomes are printed. With `--minutes` only a part is run, another one for each commit, so that a build machine gets through all of them in turn.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from fsdl_course.handout import directives, hand_out, is_learners, lessons, read_notebook
from tools.files import ROOT
from tools.run import COSTS, TIMEOUT, WITHOUT_KERNEL, kernel_of, what_failed

# Code that takes times which a busy machine would spoil
MEASURES = re.compile(r"perf_counter|\btimeit\b|measure_here|measure_link|measured_seconds|seconds_of|\bparity\(|\brace\(")
# Prose about what only the original has
LACKS = re.compile(r"\b(?:tests?|mutants?) (?:below|above|that follows?|at the end)\b|%%ipytest|#\| (?:mutant|copy|export)")


@dataclass
class Outcome:
    "What became of one copy: seconds, and everything that is wrong with it."

    lesson: str
    seconds: float
    wrong: list[str]

    def __str__(self) -> str:
        head = f"{'ok    ' if not self.wrong else 'FAILED'} {self.lesson}, {self.seconds:.0f} s"
        return "\n".join([head, *(f"    {line}" for what in self.wrong for line in what.split("\n"))])


def kinds(cell: dict) -> set[str]:
    "The kinds of output of a cell: printed text, or the MIME types that are shown."
    found = set()
    for output in cell.get("outputs", []):
        found |= {output.get("name", "stdout")} if output["output_type"] == "stream" else set(output.get("data", {})) or {output["output_type"]}
    return found


def lost_outputs(original: dict, copy: dict) -> list[str]:
    "One line for each cell of the copy that shows less than the same cell of the original."
    before = {cell["id"]: cell for cell in original["cells"] if cell["cell_type"] == "code"}
    names = [directives(cell["source"]).get("exercise") for cell in before.values()]
    found = []
    for cell in copy["cells"]:
        told = before.get(cell["id"])
        if cell["cell_type"] != "code" or told is None or is_learners(told["source"], names):
            continue
        missing = kinds(told) - kinds(cell) - {"stderr"}
        if missing:
            found.append(f"cell {cell['id']} lost its output ({', '.join(sorted(missing))}): {cell['source'].strip().splitlines()[0][:80]}")
    return found


def dangling(copy: dict, folder: Path) -> list[str]:
    "One line for each link of the copy to a file that is not there, and each mention of a test or a planted mistake."
    found = []
    for cell in copy["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        for target in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", cell["source"], flags=re.S)):
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z][a-z0-9+.-]*:", path) and not (folder / path).exists():
                found.append(f"cell {cell['id']} links to {path}, which is not handed out")
        mention = LACKS.search(cell["source"])
        if mention:
            found.append(f"cell {cell['id']} speaks of something that the copy lacks: {mention[0]!r}")
    return found


def try_copy(path: Path, original: Path) -> list[str]:
    "Run the copy at `path` where it lies; everything that is wrong."
    wrong = lost_outputs(read_notebook(original), read_notebook(path)) + dangling(read_notebook(path), path.parent)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name=kernel_of(notebook.metadata), resources={"metadata": {"path": str(path.parent)}}, extra_arguments=["--log-level=ERROR"])
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "WANDB_MODE": "offline",
            "FSDL_GUESSES": f"{scratch}/guesses.json",
        }
        try:
            client.execute(env=environment)
        except NoSuchKernel:
            return [*wrong, WITHOUT_KERNEL]
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return [*wrong, what_failed(error)]
    ran = json.loads(nbformat.writes(notebook))
    for cell in ran["cells"]:
        cell["source"] = "".join(cell["source"])
    return wrong + [f"when run, {line}" for line in lost_outputs(read_notebook(original), ran)]


def tried(original: Path, desk: Path) -> Outcome:
    "Run one lesson's copy in the folder `desk`."
    name = original.relative_to(ROOT / "nbs").as_posix()
    start = time.perf_counter()
    wrong = try_copy(desk / name, original)
    return Outcome(name, time.perf_counter() - start, wrong)


def chosen(names: list[str]) -> list[Path]:
    "The lessons that the arguments name: notebooks or folders; none, or `all`, means every lesson."
    every = lessons(ROOT / "nbs")
    if not names or names == ["all"]:
        return every
    wanted = [Path(name).resolve() for name in names]
    found = [path for path in every if any(path == want or want in path.parents for want in wanted)]
    if not found:
        raise SystemExit(f"no lesson is {' or '.join(names)}; lessons are in nbs/, for example nbs/03_parallel")
    return found


def a_part(every: list[Path], minutes: float) -> list[Path]:
    "As many lessons as fit into `minutes` by what they last took, beginning somewhere else for each commit."
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    counted = subprocess.run(["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    first = int(counted.stdout) % len(every) if counted.returncode == 0 else 0
    part, left = [], 60 * minutes
    for path in every[first:] + every[:first]:
        left -= 3 + costs.get(path.relative_to(ROOT / "nbs").as_posix(), {"seconds": 60})["seconds"]
        if left < 0 and part:
            break
        part.append(path)
    return part


def run_all(paths: list[Path], say=print) -> list[Outcome]:
    "Run the copies of `paths`, telling each outcome as it comes; what failed is tried once more, alone. Returns the last outcome of each."
    with tempfile.TemporaryDirectory() as scratch:
        desk = Path(scratch) / "lessons"
        hand_out(desk)
        alone = [path for path in paths if MEASURES.search(path.read_text(encoding="utf-8"))]
        together = [path for path in paths if path not in alone]
        outcomes = {}

        def note(path: Path, outcome: Outcome) -> None:
            outcomes[path] = outcome
            say(outcome)

        with ThreadPoolExecutor(2) as pool:
            for path, outcome in zip(together, pool.map(lambda path: tried(path, desk), together)):
                note(path, outcome)
        for path in alone:
            note(path, tried(path, desk))
        for path in [path for path in paths if outcomes[path].wrong]:
            say(f"once more, alone: {outcomes[path].lesson}")
            note(path, tried(path, desk))
    return [outcomes[path] for path in paths]


def main(arguments: list[str] | None = None) -> int:
    "Run the copies of the lessons named; 1 if one of them failed twice."
    parser = argparse.ArgumentParser(prog="python -m tools.lessons", description=__doc__.split("\n")[0])
    parser.add_argument("lessons", nargs="*", help="notebooks or folders below nbs/ (default: all)")
    parser.add_argument("--minutes", type=float, help="run only a part that takes about so long, another one for each commit")
    options = parser.parse_args(arguments)
    every = chosen(options.lessons)
    paths = a_part(every, options.minutes) if options.minutes else every
    left_out = [path.relative_to(ROOT / "nbs").as_posix() for path in every if path not in paths]
    if left_out:
        print(f"Left out this time: {', '.join(left_out)}")
    outcomes = run_all(paths, lambda text: print(text, flush=True))
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
