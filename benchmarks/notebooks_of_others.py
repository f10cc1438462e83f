"""What `check_notebook` finds in notebooks that others wrote: how many of each kind, and a sample of findings to judge by reading.

Without words, source distributions with notebooks in them are fetched by pip into a temporary folder: flax (Apache-2.0), seaborn, nbclient, nbconvert and papermill
(BSD-3-Clause). Nothing of them is kept. With words, the notebooks of those folders are checked.
"""
import argparse
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from fsdl_course.software.notebooks import KINDS, Finding, NotebookError, check_notebook
from fsdl_course.spec import text_table

SOURCES = ("flax==0.12.8", "seaborn==0.13.2", "papermill==2.7.0", "nbclient==0.11.0", "nbconvert==7.17.2")
RESULTS = Path(__file__).resolve().parent / "results"


def fetched(folder: Path) -> None:
    "Put the notebooks of all source distributions into `folder`."
    for wanted in SOURCES:
        print(f"fetching {wanted}", flush=True)
        words = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder), wanted]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as inside:
            inside.extractall(folder, members=[one for one in inside.getmembers() if one.name.endswith(".ipynb")], filter="data")


def line_of(path: Path, finding: Finding) -> str:
    "The line of the notebook's source that a finding is about."
    if not (finding.cell and finding.line):
        return ""
    source = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][finding.cell - 1]["source"]).split("\n")
    return source[finding.line - 1].strip()[:90]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="*", type=Path, help="folders with notebooks (default: fetch some)")
    options.add_argument("--sample", type=int, default=20, help="findings to show for reading (default: 20)")
    options.add_argument("--save", action="store_true", help="append the counts to results/")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not asked.folders:
            fetched(Path(scratch))
        paths = sorted(path for folder in asked.folders or [Path(scratch)] for path in folder.rglob("*.ipynb"))
        found, refused, start = {}, [], time.perf_counter()
        for path in paths:
            try:
                found[path] = check_notebook(path)
            except NotebookError as error:
                refused.append(str(error).replace(f"{path.parent}/", ""))
        seconds = time.perf_counter() - start
        counts = Counter(one.kind for told in found.values() for one in told)
        books = Counter(kind for told in found.values() for kind in {one.kind for one in told})
        print(f"{len(found)} notebooks checked in {seconds:.0f} s, {len(refused)} refused:", *refused, sep="\n  ")
        print(text_table([("kind", "findings", "notebooks"), *((kind, str(counts[kind]), str(books[kind])) for kind in KINDS)]))
        every = [(path, one) for path, told in found.items() for one in told if one.kind != "unpinned"]
        print("\na sample without `unpinned`:")
        for path, one in random.Random(0).sample(every, min(asked.sample, len(every))):
            print(f"{path.name} cell {one.cell}, {one.kind}: {one.message}   {line_of(path, one)}")
    if asked.save:
        row = {"notebooks": len(found), "refused": len(refused), "findings": dict(counts), "with": dict(books), "seconds": round(seconds, 1), "sources": list(SOURCES) if not asked.folders else None}
        with open(RESULTS / "notebooks_of_others.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
