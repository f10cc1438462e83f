"""Run notebooks for real and save what they print: `python -m tools.run [notebook ...]` (default: all of them).

Planted answers (`#| mutant`, `#| copy`) and cells that are only shown (`#| eval: false`) are not run. A notebook that fails keeps its old outputs.
What each one took is kept in nbs/_costs.json, rounded, and only changed when it really changes.
"""
import argparse
import json
import os
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbdev.clean import nbdev_clean

from fsdl_course.handout import calls, directives
from tools.files import ROOT, notebooks

COSTS = ROOT / "nbs" / "_costs.json"
SKIPPED = "skip-execution"  # nbclient's own word
TIMEOUT = 900  # seconds for one cell
EXTRAS = "fsdl-extras"  # the kernel of the environment with other frameworks, trackers and clusters' clients
WITHOUT_KERNEL = f"there is no kernel {EXTRAS} here: make extras installs it"


@dataclass
class Cost:
    "What a run took: seconds of wall clock, and GiB of memory at the peak, of the kernel and all its ranks."

    seconds: float
    gib: float


class Meter(threading.Thread):
    "Watches the memory of the kernel and everything it starts."

    def __init__(self, client: NotebookClient):
        super().__init__(daemon=True)
        self.client, self.peak, self.done = client, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.25):
            process = getattr(getattr(self.client.km, "provisioner", None), "process", None)
            if process:
                self.peak = max(self.peak, tree_memory(process.pid))


def tree_memory(pid: int) -> int:
    "Bytes that the process and its descendants hold; pages they share count once where the system can tell (Linux)."
    total = 0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in family:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.Error:
            continue
    return total


def is_skipped(cell) -> bool:
    "Whether a cell is not run."
    marks = directives(cell.source)
    return bool({"mutant", "copy"} & set(marks)) or marks.get("eval") == "false"


def tidy_text(text: str) -> str:
    "Printed text as a terminal would show it in the end, without paths of the machine that it was printed on."
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    text = "\n".join(lines)
    text = re.sub(r"[^\s\"'(]*/ipykernel_\d+/\d+\.py", "<cell>", text)
    text = re.sub(rf"{re.escape(str(ROOT))}/[^\s\"']*?/site-packages/", "", text)
    return text.replace(f"{ROOT}{os.sep}", "")


def tidy(notebook) -> None:
    "Merge printed pieces of one stream and clean their text; nothing of how or when the cell ran is kept."
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        merged = []
        for output in cell.outputs:
            same = merged and output.output_type == "stream" == merged[-1].output_type and merged[-1].name == output.name
            if same:
                merged[-1].text += output.text
            else:
                merged.append(output)
        for output in merged:
            if output.output_type == "stream":
                output.text = tidy_text(output.text)
            if output.output_type in ("display_data", "execute_result"):
                for kind, value in output.data.items():
                    if kind.startswith("text/") and isinstance(value, str):
                        output.data[kind] = tidy_text(value) if kind == "text/plain" else value.replace(f"{ROOT}{os.sep}", "")
        # A progress bar that has gone leaves an empty line behind
        cell.outputs = [output for output in merged if output.output_type != "stream" or output.text.strip()]


def kernel_of(metadata: dict) -> str:
    "The kernel that a notebook is run in: that of `make extras` if it says so, else the course's own."
    return EXTRAS if metadata.get("kernelspec", {}).get("name") == EXTRAS else "python3"


def execute(notebook, folder: Path) -> Cost:
    "Run the notebook's cells in a new kernel that works in `folder`, filling in their outputs."
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_skipped(cell):
            cell.outputs = []
            cell.metadata["tags"] = [SKIPPED]
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name=kernel_of(notebook.metadata),
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    meter, start = Meter(client), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path, "WANDB_MODE": "offline"}
        if any(calls(cell.source, "guess") for cell in notebook.cells):
            # A guess that was revealed stands for good: a run must not see those of the last one, nor leave any behind
            environment["FSDL_GUESSES"] = f"{scratch}/guesses.json"
        meter.start()
        try:
            client.execute(env=environment)
        finally:
            meter.done.set()
            meter.join()
            for cell in notebook.cells:
                cell.metadata.pop("tags", None)
    tidy(notebook)
    return Cost(time.perf_counter() - start, meter.peak / 2**30)


def run_notebook(path: Path) -> Cost:
    "Run the notebook at `path` and save its outputs there. Raises nbclient's errors, and then changes nothing."
    notebook = nbformat.read(path, as_version=4)
    cost = execute(notebook, path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    nbdev_clean.__wrapped__(str(beside))
    os.replace(beside, path)
    return cost


def rounded(cost: Cost) -> dict[str, float]:
    "The cost to two significant digits."
    return {"seconds": float(f"{cost.seconds:.2g}"), "gib": float(f"{cost.gib:.2g}")}


def keep_cost(path: Path, cost: Cost, costs: Path = COSTS) -> None:
    "Write down what the notebook took, if that differs by more than a third from what stands there."
    kept = json.loads(costs.read_text()) if costs.exists() else {}
    name, new = path.relative_to(ROOT / "nbs").as_posix(), rounded(cost)
    old = kept.get(name)
    if old and all(abs(new[key] - old[key]) <= max(old[key], new[key]) / 3 for key in new):
        return
    kept[name] = new
    there = {key: kept[key] for key in sorted(kept) if (ROOT / "nbs" / key).exists()}
    costs.write_text(json.dumps(there, indent=1) + "\n")


def what_failed(error: Exception) -> str:
    "The end of a notebook's error, without the colours."
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    # A cell magic's traceback repeats the whole cell in one line
    lines = [line if len(line) < 300 else f"{line[:150]} ..." for line in text.split("\n")]
    return "\n".join(lines if len(lines) < 160 else [*lines[:20], "[...]", *lines[-140:]])


def main(arguments: list[str] | None = None) -> int:
    "Run the notebooks named (default: all) and say what each took; 1 if one failed."
    parser = argparse.ArgumentParser(prog="python -m tools.run", description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    chosen = [path.resolve() for path in parser.parse_args(arguments).notebooks] or notebooks()
    failed = 0
    for path in chosen:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        print(f"{name} ...", end=" ", flush=True)
        try:
            cost = run_notebook(path)
        except NoSuchKernel:
            failed += 1
            print(f"FAILED\n{WITHOUT_KERNEL}\n")
            continue
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed += 1
            print(f"FAILED\n{what_failed(error)}\n")
            continue
        print(f"{cost.seconds:.1f} s, {cost.gib:.2f} GiB, {path.stat().st_size // 1024} KiB")
        if path.is_relative_to(ROOT / "nbs"):
            keep_cost(path, cost)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
