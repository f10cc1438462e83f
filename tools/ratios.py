"""Draw what the benchmarks last saved: `python -m tools.ratios` reads benchmarks/results/*.jsonl and writes benchmarks/ratios.svg.

One row for each line of each benchmark: the library's time over ours with its 95% interval (above 1, ours is faster). The bytes held stand in benchmarks/README.md.
"""
import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from fsdl_course.pictures import PALETTE, style
from tools.files import ROOT

FOLDER = ROOT / "benchmarks"
# Where the aims that were set before measuring lie
AIMS = {"sharded": 1.2, "tensor": 1.1, "pipeline": 1.0, "data_parallel": 1.0}


def latest(folder: Path) -> list[dict]:
    "The last saved line for each benchmark, model and variant, in the order in which they were first saved."
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            found[line["benchmark"], line["model"], line["variant"]] = line
    return list(found.values())


def name_of(line: dict) -> str:
    "What a row says at its side."
    if "/" in line["variant"]:  # it says itself whose time is divided by whose
        who, what = line["variant"], line["model"]
    else:
        who, what = f"{line['library'].split(',')[0]} / ours", f"{line['model']}, {line['variant']}"
    return f"{line['benchmark'].replace('_', ' ')}: {who}\n{what}"


def draw(lines: list[dict], path: Path) -> Path:
    "Write the picture of all ratios."
    kinds = list(dict.fromkeys(line["benchmark"] for line in lines))
    with plt.rc_context({**style(), "svg.hashsalt": "ratios", "font.size": 8, "figure.figsize": (8, 0.9 + 0.42 * len(lines))}):
        figure, axes = plt.subplots(layout="constrained")
        axes.axvline(1, color="#888", linewidth=1)
        for row, line in enumerate(reversed(lines)):
            colour = PALETTE[kinds.index(line["benchmark"]) % len(PALETTE)]
            axes.plot([line["low"], line["high"]], [row, row], color=colour, linewidth=3, solid_capstyle="round", alpha=0.5)
            axes.plot(line["ratio"], row, "o", color=colour, markersize=6)
            if line["benchmark"] in AIMS:
                axes.plot(AIMS[line["benchmark"]], row, "|", color="#888", markersize=12)
        axes.set_yticks(range(len(lines)), [name_of(line) for line in reversed(lines)])
        axes.set_xlabel("the library's time / ours, with its 95% interval; | is what was aimed at; right of 1, ours is faster")
        axes.grid(axis="y", visible=False)
        figure.savefig(path, metadata={"Date": None, "Title": "The library's time over ours, for every benchmark"})
        plt.close(figure)
    return path


def main() -> None:
    lines = latest(FOLDER / "results")
    if not lines:
        raise SystemExit("Nothing was saved yet: run a benchmark with --save, or `make bench ARGS=--save`.")
    for line in lines:
        print(f"{name_of(line).replace(chr(10), ', '):80} {line['ratio']:.3f}  {line['low']:.3f} to {line['high']:.3f}  {line['date']}")
    print(draw(lines, FOLDER / "ratios.svg").relative_to(ROOT))


if __name__ == "__main__":
    matplotlib.use("svg")
    main()
