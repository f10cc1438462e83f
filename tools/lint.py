"""What a reader of the notebooks should never find: `python -m tools.lint [notebook ...]`.

- a number in the prose that no code or output above it shows, and that carries no source in its paragraph;
- code cells over 60 lines, imports mixed with other code, wildcard imports;
- saved errors, missing outputs, notebooks over 1.5 MB, paths of the machine that ran them;
- exported public functions and classes without a docstring;
- a lesson whose header promises less time or memory than was measured;
- a lesson with plumbing in it: exported cells and tests belong to source notebooks;
- a planted answer that a learner would get: `#| fair` or `#| says` in a cell that is neither a mutant nor a copy;
- a lesson that departs from the form (tools/form.py), unless tools/lint.toml says that it does not have it yet.
"""
import argparse
import ast
import html
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fsdl_course.handout import calls, code, directives, is_test, read_notebook
from tools.files import ROOT, is_source, notebooks
from tools.form import CONFIGURATION, form_faults, without_form

LONGEST_CELL = 60  # lines
LARGEST = 1_500_000  # bytes
COSTS = ROOT / "nbs" / "_costs.json"


@dataclass(frozen=True)
class Finding:
    "Something to mend: where, and what."

    notebook: str
    cell: str
    what: str

    def __str__(self) -> str:
        return f"{self.notebook} #{self.cell}: {self.what}"


# ---- numbers in the prose ----

# A number on its own: not a part of a name (A100, GPT-2, float64, v1.2.3, 01_processes)
NUMBER = re.compile(r"(?<![\w.,/^_#])(?<![A-Za-z)]-)[-−+~≈]?\d+(?:[,  _]\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\d_]|\.\d)")
# 7b, 4x, 25k stay numbers; 2D, 1f1b and 70b-instruct are names
SUFFIX = re.compile(r"\s?(%|×|x\b|[kKMGTB]\b|bn\b|[kMGT]i?B\b|million\b|billion\b|thousand\b|[a-zµ]{1,2}\b(?!-)|GB/s|°)")
# What a number directly after one of these words counts or names is no claim
NAMING = re.compile(
    r"\b(?:rank|ranks|lesson|lessons|chapter|exercise|hint|step|part|section|§|figure|fig\.|table|equation|eq\.|appendix|page|version|Python|PyTorch|torch|"
    r"CUDA|nbdev|JupyterLab|Lightning|GPT|ZeRO|stage|stages|level|lecture|FSDL|cell|layer|layers|node|device|GPU|epoch|seed|port|number|no\.|item|bug|case|option|"
    r"micro-batch|chunk|bucket|axis|dim|zero|cores?|since|line|rule|act|test|world size|exit code|signal)[\s ]*$",
    re.I,
)
SOURCE = re.compile(r"\]\(\s*[^)\s]+\s*\)|https?://|\(source:", re.I)
UNITS = (1, 1e3, 1e6, 1e9, 1e12, 1024, 1024**2, 1024**3, 1024**4, 1e-3, 1e-6, 1e-9, 100, 0.01, 60, 3600)


def value_of(text: str) -> float:
    "The number that a text such as 1,234.5 or −3 stands for, without its sign."
    return abs(float(re.sub(r"[,  _~≈+]", "", text.replace("−", "-"))))


def decimals(text: str) -> int:
    "The digits after the point."
    return len(text.split("e")[0].partition(".")[2])


def plain_prose(markdown: str) -> str:
    "Markdown without code, formulas, tags, addresses and list numbers, each replaced by spaces so that words stay apart."
    text = re.sub(r"```.*?```|~~~.*?~~~", " ", markdown, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S)
    text = re.sub(r"`[^`\n]+`|\$[^$\n]+\$", " x ", text)
    text = re.sub(r"<[^<>]+>", " ", text)
    text = re.sub(r"(\]\()[^)\s]*\)", r"\1)", text)
    text = re.sub(r"https?://\S+", " ", text)
    text = re.sub(r"^(\s*(?:>\s*)?)\d+[.)]\s", r"\1", text, flags=re.M)
    text = re.sub(r"^#+ .*$", lambda m: re.sub(r"^(#+ )\d+[.)]?\s", r"\1", m[0]), text, flags=re.M)
    return html.unescape(text)


def paragraphs(markdown: str) -> list[str]:
    "The paragraphs, list items together with their list, tables whole; code blocks with blank lines in them in one piece."
    whole = re.sub(r"```.*?```", " ", markdown, flags=re.S)
    return [part for part in re.split(r"\n\s*\n", whole) if part.strip()]


def claims(paragraph: str) -> list[str]:
    "The numbers that a paragraph claims, as they are written."
    if SOURCE.search(paragraph):
        return []
    found = []
    for line in plain_prose(paragraph).split("\n"):
        if "★" in line:  # the header's or the exercise's difficulty and minutes
            continue
        for match in NUMBER.finditer(line):
            text, after = match[0], line[match.end() :]
            unit = SUFFIX.match(after)
            if not unit and re.match(r"[A-Za-z]|-(?!\s)[A-Za-z]", after):  # 2D, 1F1B, 3-stage
                if not re.match(r"-(?:fold|times|bit|byte)", after):
                    continue
            if not unit and re.fullmatch(r"\d+", text) and int(text) <= 10:
                continue
            if not unit and re.search(NAMING, line[: match.start()]):
                continue
            found.append(text)
    return found


def numbers_in(text: str) -> list[tuple[float, int]]:
    "The numbers that a cell's code or output shows, each with its digits after the point."
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    found = []
    for match in re.finditer(r"\d+(?:[,_ ]\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?", text):
        found.append((value_of(match[0]), decimals(match[0])))
    return found


def shown_by(cell: dict) -> str:
    "All text that a code cell and its outputs show."
    parts = [cell["source"]]
    for output in cell.get("outputs", []):
        parts.append("".join(output.get("text", "")))
        for kind, data in output.get("data", {}).items():
            if kind in ("text/html", "image/svg+xml"):
                parts.append(html.unescape(re.sub(r"<(?!/?(?:title|text|desc))[^<>]*>", " ", "".join(data))))
            elif kind.startswith("text/"):
                parts.append("".join(data))
    return "\n".join(parts)


def is_shown(claim: str, shown: list[tuple[float, int]]) -> bool:
    "Whether one of the numbers shown, in any common unit, is the claim when rounded as the claim is."
    value, places = value_of(claim), decimals(claim)
    half = 0.5000001 * 10.0**-places
    # A round claim such as 300 is rounded to its last digit that is not zero, but never beyond two digits
    digits = str(int(value))
    if places == 0 and len(digits) > 2:
        half = 0.5 * 10.0 ** min(len(digits) - len(digits.rstrip("0")), len(digits) - 2)
    return any(abs(number / unit - value) <= half for number, _ in shown for unit in UNITS if number)


def unsourced_numbers(cells: list[dict]) -> list[tuple[str, str]]:
    "(cell's id, what is wrong) for each number in the prose that stands nowhere above it and has no source."
    found, shown = [], []
    for cell in cells:
        if cell["cell_type"] == "code":
            shown += numbers_in(shown_by(cell))
            continue
        for paragraph in paragraphs(cell["source"]) if cell["cell_type"] == "markdown" else []:
            for claim in claims(paragraph):
                if not is_shown(claim, shown):
                    start = " ".join(paragraph.split())[:70]
                    found.append((cell.get("id", "?"), f"the number {claim} stands in no code or output above and has no source: {start!r}"))
    return found


# ---- code ----


def code_faults(cell: dict, kind: str = "") -> list[str]:
    "What is wrong with a code cell's text."
    source, marks, faults = cell["source"], directives(cell["source"]), []
    body_text = code(source)
    if len(body_text.split("\n")) > LONGEST_CELL:
        faults.append(f"{len(body_text.splitlines())} lines of code; {LONGEST_CELL} at most")
    if {"fair", "says"} & set(marks) and not {"mutant", "copy"} & set(marks):
        faults.append("#| fair and #| says belong to a cell with #| mutant or #| copy; a learner gets this one")
    try:
        body = ast.parse(body_text).body
    except SyntaxError:
        return faults
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    if any(alias.name == "*" for node in imports for alias in node.names):
        faults.append("a wildcard import")
    if imports and len(imports) < len(body) and not is_test(source) and marks.get("eval") != "false":
        faults.append("imports stand in one cell with other code")
    unseen = [ast.unparse(node.value.func) for node in body[:-1] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    faults += [f"what {name}() answers is not shown: it must be the cell's last line" for name in unseen if name in ("guess", "reveal", "check")]
    if kind == "lesson" and (is_test(source) or {"export", "exports", "exporti", "default_exp"} & set(marks)):
        faults.append("a lesson exports nothing and holds no tests of the package: they belong to nbs/source")
    if {"export", "exports"} & set(marks):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                faults.append(f"{node.name} is exported and has no docstring")
    return faults


def output_faults(cell: dict) -> list[str]:
    "What is wrong with a code cell's saved outputs."
    source, outputs, marks = cell["source"], cell.get("outputs", []), directives(cell["source"])
    faults = []
    if any(output["output_type"] == "error" for output in outputs):
        faults.append("a saved output is an error")
    text = json.dumps(outputs)
    place = re.search(r"/(?:tmp|home|root|Users|work)/[\w.-]+", text)
    if place:
        faults.append(f"a path of the machine that ran it is in the output: {place[0]}")
    silent = {"mutant", "copy", "hide"} & set(marks) or marks.get("eval") == "false"
    speaks = is_test(source) or calls(source, "print", "check", "reveal", "guess", "display")
    at_top = [call for call in calls(source, "print", "check", "reveal", "guess", "display") if not call.col_offset]
    if not silent and not outputs and (is_test(source) or (speaks and at_top)):
        faults.append("its output is missing: run the notebook")
    return faults


def exercise_minutes(notebook: dict) -> int:
    "The minutes of all exercises together, as their own headers give them."
    found = (re.search(r"^★[★☆]{2} · (\d+) min", cell["source"], re.M) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return sum(int(match[1]) for match in found if match)


def header_faults(notebook: dict, cost: dict | None, lesson: bool | None = None) -> list[str]:
    """A notebook opens with title and promise, a lesson with its minutes and difficulty too; seconds or GiB named there are those measured,
    and minutes for the exercises are their sum."""
    first = notebook["cells"][0]["source"] if notebook["cells"] else ""
    heads = [line for cell in notebook["cells"][:3] if cell["cell_type"] == "markdown" for line in cell["source"].split("\n") if "★" in line]
    faults = []
    if lesson is not None and not re.match(r"# .+\n\n> ", first):
        faults.append("it does not open with `# Title` and `> one-line promise`")
    if lesson and not any(re.search(r"\d+ min", line) for line in heads):
        faults.append("no header line with its minutes and difficulty, like **40 minutes · ★★☆ · ...**")
    minutes = exercise_minutes(notebook)
    if lesson and minutes and not any(f", and {minutes} for the exercises" in line for line in heads):
        faults.append(f"the header does not say ', and {minutes} for the exercises', the sum of their minutes")
    for line in heads[:1] if cost else []:
        for pattern, key, unit in ((r"([\d.]+) ?(?:s\b|seconds)", "seconds", "s"), (r"([\d.]+) ?GiB", "gib", "GiB")):
            told = re.search(pattern, line)
            if told and not 0.8 * cost[key] <= float(told[1]) <= max(4 * cost[key], 1):
                faults.append(f"the header says {told[1]} {unit}, and {cost[key]} {unit} were measured")
    return faults


def lint(path: Path, cost: dict | None = None) -> list[Finding]:
    "Everything to mend in one notebook."
    notebook = read_notebook(path)
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    inside = path.relative_to(ROOT / "nbs") if path.is_relative_to(ROOT / "nbs") else None
    lesson = None if inside is None else not is_source(path) and inside.name != "index.ipynb"
    found = [Finding(name, "1", fault) for fault in header_faults(notebook, cost, lesson)]
    if path.stat().st_size > LARGEST:
        found.append(Finding(name, "all", f"{path.stat().st_size / 1e6:.1f} MB; {LARGEST / 1e6} MB at most"))
    found += [Finding(name, cell, what) for cell, what in unsourced_numbers(notebook["cells"])]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            found += [Finding(name, cell.get("id", "?"), what) for what in code_faults(cell, "lesson" if lesson else "") + output_faults(cell)]
    if lesson:
        faults = form_faults(notebook["cells"], cost)
        if inside.as_posix() not in without_form():
            found += [Finding(name, cell, what) for cell, what in faults]
        elif not faults:
            found.append(Finding(name, "all", f"it has the form: take it off the list in {CONFIGURATION.relative_to(ROOT)}"))
    return found


def lint_all(paths: list[Path] | None = None) -> list[Finding]:
    "Everything to mend in the notebooks (default: all of the course)."
    costs = json.loads(COSTS.read_text()) if COSTS.exists() else {}
    found = []
    for path in paths or notebooks():
        inside = path.is_relative_to(ROOT / "nbs")
        found += lint(path, costs.get(path.relative_to(ROOT / "nbs").as_posix()) if inside else None)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.lint", description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    findings = lint_all([path.resolve() for path in parser.parse_args().notebooks] or None)
    print("\n".join(map(str, findings)) or "Nothing to mend.")
    sys.exit(1 if findings else 0)
