"""The form of a lesson, held by `python -m tools.lint`: what fits on a page and in a head, how a lesson opens and ends, and whether its minutes are true.

Lessons that don't have the form yet are listed in tools/lint.toml. That list only shrinks: a lesson that is on it without need is a fault too.
"""
import re
import tomllib

from fsdl_course.handout import calls, code, directives, is_imports, is_test, stub
from tools.files import ROOT

CONFIGURATION = ROOT / "tools" / "lint.toml"
MOST_LINES = 300  # visible lines of code in a lesson
LONGEST = 25  # lines in one visible cell
WIDEST = 92  # columns of code
IN_A_ROW = 2  # visible code cells without a sentence between them
MOST_MINUTES = 60  # with the exercises
WORDS_A_MINUTE, LINES_A_MINUTE = 150, 10  # how quickly technical prose and new code are read
SOONEST = 40  # visible lines of code before something is seen
ENDING = ("In production", "Since 2022", "Take away", "Next")
UNSEEN = {"hide", "hide_input", "mutant", "copy", "check"}


def without_form() -> set[str]:
    "The lessons, relative to nbs/, that don't have the form yet."
    return set(tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["without_form"])


def is_visible(cell: dict) -> bool:
    "Whether a learner sees the code of this cell without unfolding anything."
    if cell["cell_type"] != "code":
        return False
    marks = directives(cell["source"])
    return not (UNSEEN & set(marks) or marks.get("echo") == "false" or is_test(cell["source"]) or is_imports(cell["source"]))


def seen_code(cell: dict) -> list[str]:
    "The lines of code that a learner sees of a visible cell: of an exercise its stub."
    source = stub(cell["source"]) if "exercise" in directives(cell["source"]) else cell["source"]
    return [line for line in code(source).split("\n") if line.strip()]


def words(cells: list[dict]) -> int:
    "Words of prose, without what is folded."
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"<details>.*?</details>", " ", text, flags=re.S)
    return len(re.findall(r"[\w'’.-]+", re.sub(r"\]\([^)]*\)|<[^>]*>", " ", text)))


def is_exercise_heading(line: str) -> bool:
    return re.match(r"#{2,3} Exercise \d", line) is not None


def split_exercises(cells: list[dict]) -> tuple[list[dict], list[dict]]:
    "The cells to read, and those of the exercises."
    reading, exercises, inside = [], [], False
    for cell in cells:
        heads = re.findall(r"^#{1,3} .*$", cell["source"], re.M) if cell["cell_type"] == "markdown" else []
        if heads:
            inside = is_exercise_heading(heads[-1])
        (exercises if inside else reading).append(cell)
    return reading, exercises


def reading_minutes(cells: list[dict], seconds: float) -> float:
    "Minutes that a lesson takes without its exercises: its words, its visible code, and waiting for it to run."
    reading = split_exercises(cells)[0]
    lines = sum(len(seen_code(cell)) for cell in reading if is_visible(cell))
    return words(reading) / WORDS_A_MINUTE + lines / LINES_A_MINUTE + seconds / 60


# ---- the single rules ----


def size_faults(cells: list[dict]) -> list[tuple[str, str]]:
    "Too many lines, too long cells, too wide lines, too many code cells in a row."
    found, total, row = [], 0, 0
    for cell in cells:
        label = cell.get("id", "?")
        if cell["cell_type"] == "markdown":
            row = 0
            continue
        marks = directives(cell["source"])
        if not {"mutant", "copy", "hide"} & set(marks):
            wide = [line for line in cell["source"].split("\n") if len(line) > WIDEST]
            if wide:
                found.append((label, f"{len(wide)} lines of code are wider than {WIDEST} columns: {wide[0].strip()[:50]!r}"))
        if not is_visible(cell):
            continue
        lines = len(seen_code(cell))
        total += lines
        if lines > LONGEST:
            found.append((label, f"{lines} lines in one cell; {LONGEST} at most"))
        if not ({"exercise", "setup"} & set(marks) or calls(cell["source"], "guess", "reveal", "check")):
            row += 1
            if row == IN_A_ROW + 1:
                found.append((label, f"{row} code cells in a row without a sentence between them"))
    if total > MOST_LINES:
        found.append(("all", f"{total} visible lines of code; {MOST_LINES} at most"))
    return found


def heading_faults(cells: list[dict]) -> list[tuple[str, str]]:
    "Headings that have nothing under them."
    found, last = [], None  # (cell, level, text) of a heading that has had no content yet
    for cell in cells:
        if cell["cell_type"] == "code":
            last = None if not {"mutant", "copy"} & set(directives(cell["source"])) else last
            continue
        text = re.sub(r"```.*?```", "x", cell["source"], flags=re.S)
        for line in filter(str.strip, text.split("\n")):
            head = re.match(r"(#{1,6}) (.*)", line)
            if head and last and len(head[1]) <= last[1]:
                found.append((last[0], f"nothing stands under the heading {last[2]!r}"))
            last = (cell.get("id", "?"), len(head[1]), head[2]) if head else None
    return found + ([(last[0], f"nothing stands under the heading {last[2]!r}")] if last else [])


def picture_faults(cells: list[dict]) -> list[tuple[str, str]]:
    "Pictures without a text alternative."
    found = []
    for cell in cells:
        label, source = cell.get("id", "?"), cell["source"]
        if cell["cell_type"] == "markdown":
            if re.search(r"!\[\s*\]\(", source) or re.search(r"<img(?![^>]*\balt=[\"'][^\"']+)", source):
                found.append((label, "a picture has no alternative text"))
            continue
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data and not directives(source).get("fig-alt"):
                found.append((label, "a picture has no alternative text: add `#| fig-alt: what one sees`"))
            drawn = "".join(data.get("text/html", "")) + "".join(data.get("image/svg+xml", ""))
            if re.search(r"<svg|data:image/svg", drawn) and not re.search(r"<desc|alt=|%3Cdesc|aria-label", drawn):
                found.append((label, "a drawing has no description"))
    return found


def opening_faults(cells: list[dict]) -> list[tuple[str, str]]:
    "What a lesson opens with: what you need, what you can do afterwards, the claim, and soon something to see."
    first = "\n".join(cell["source"] for cell in cells[:6] if cell["cell_type"] == "markdown")
    found = [("1", f"the opening does not say **{words}**") for words in ("What you need", "After this you can") if f"**{words}" not in first]
    if not re.search(r"^## The claim", "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown"), re.M):
        found.append(("1", "there is no section `## The claim`"))
    lines = 0
    for cell in cells:
        if cell["cell_type"] == "code" and any(output["output_type"] in ("display_data", "execute_result") for output in cell.get("outputs", [])):
            break
        lines += len(seen_code(cell)) if is_visible(cell) else 0
    if lines > SOONEST:
        found.append(("1", f"{lines} lines of code stand before the first picture or result; {SOONEST} at most"))
    return found


def ending_faults(cells: list[dict]) -> list[tuple[str, str]]:
    "The sections that a lesson ends with, in their order; three sentences to take away, and a link to what is next."
    text = "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    sections = re.findall(r"^## (.*?)\s*$(.*?)(?=^## |\Z)", text, re.M | re.S)
    names = tuple(name for name, _ in sections)
    if names[-len(ENDING) :] != ENDING:
        return [("all", f"it does not end with the sections {', '.join(ENDING)}; they are {', '.join(names[-len(ENDING):])}")]
    found, body = [], dict(sections)
    sentences = [part for part in re.split(r"(?<=[.!?:])\s+", body["Take away"].strip()) if part.strip(" -*")]
    if not 3 <= len(sentences) <= 5:
        found.append(("all", f"Take away has {len(sentences)} sentences; three are asked for"))
    if "](" not in body["Next"]:
        found.append(("all", "Next links to nothing"))
    return found


def minutes_faults(cells: list[dict], cost: dict | None) -> list[tuple[str, str]]:
    "A header whose minutes don't fit the words, the code and the run time; a lesson of more than an hour."
    head = next((line for cell in cells[:3] if cell["cell_type"] == "markdown" for line in cell["source"].split("\n") if "★" in line), "")
    told = re.search(r"(\d+) min", head)
    more = re.search(r"and (\d+) for the exercises", head)
    if not told:
        return []  # another rule's finding
    minutes, exercises = int(told[1]), int(more[1]) if more else 0
    found, need = [], reading_minutes(cells, (cost or {}).get("seconds", 0))
    if not 0.65 * need <= minutes <= 1.5 * need:
        found.append(("1", f"the header says {minutes} minutes of reading; words, code and run time make about {need:.0f}"))
    if minutes + exercises > MOST_MINUTES:
        found.append(("1", f"{minutes} minutes and {exercises} for the exercises; {MOST_MINUTES} together at most"))
    return found


def form_faults(cells: list[dict], cost: dict | None) -> list[tuple[str, str]]:
    "(cell's id, what is wrong) for everything in which a lesson departs from the form."
    rules = (size_faults, heading_faults, picture_faults, opening_faults, ending_faults)
    return [fault for rule in rules for fault in rule(cells)] + minutes_faults(cells, cost)
