"""From the cells of a notebook to the cells that its page shows: exercises as stubs, solutions, checks, tests and imports folded, planted answers left out."""
import html
import json
import re
from collections.abc import Callable

from fsdl_course.handout import code as code_of
from fsdl_course.handout import directives, is_imports, is_test, solution, stub
from tools.site import DocsError

# Options that Quarto reads from a code cell; every other `#|` line is for the course's own tools and is not shown
QUARTO_OPTIONS = {
    "code-fold", "code-summary", "code-line-numbers", "code-overflow", "column", "echo", "fig-align", "fig-alt", "fig-cap",
    "fig-column", "include", "label", "layout-ncol", "layout-nrow", "output", "tbl-cap", "tbl-column",
}  # fmt: skip
EXPORTED = {"export", "exports", "exporti"}
LEFT_OUT = {"hide", "default_exp", "mutant", "copy"}
WIDGET = "application/vnd.jupyter.widget-view+json"


def text_of(value: str | list[str]) -> str:
    "A text that a notebook may keep as a list of lines."
    return "".join(value) if isinstance(value, list) else value


def code_cell(source: str, outputs: list | None = None, **options: str) -> dict:
    "A code cell with Quarto options (`code_fold=` for `#| code-fold:`)."
    head = "".join(f"#| {name.replace('_', '-')}: {value}\n" for name, value in options.items())
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs or [], "source": head + source}


def markdown_cell(source: str) -> dict:
    "A cell of prose."
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def folded(source: str, summary: str, outputs: list | None = None) -> dict:
    "A code cell whose code opens on a click; its outputs stand below it openly."
    return code_cell(source, outputs, code_fold="true", code_summary=json.dumps(summary, ensure_ascii=False))


# -------------------------------------------------------------------------------------------------------------- outputs

ANSI = re.compile(r"\x1b\[([\d;]*)([A-Za-z])")
ANSI_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def ansi_html(text: str) -> str:
    "Terminal text as HTML: colours and bold as `ansi-*` classes, any other escape sequence dropped."
    parts, last, style = [], 0, {"colour": "", "bold": ""}
    for match in [*ANSI.finditer(text), None]:
        chunk = html.escape(text[last : match.start() if match else len(text)], quote=False)
        classes = " ".join(value for value in style.values() if value)
        parts.append(f'<span class="{classes}">{chunk}</span>' if classes and chunk else chunk)
        if match is None:
            break
        last = match.end()
        if match[2] != "m":
            continue
        codes = [int(code or 0) for code in match[1].split(";")]
        while codes:
            code = codes.pop(0)
            if code == 0:
                style = {"colour": "", "bold": ""}
            elif code in (1, 22):
                style["bold"] = "ansi-bold" if code == 1 else ""
            elif code in (38, 48):  # a colour of the 256 or of all: its numbers follow
                del codes[: 2 if codes[:1] == [5] else 4]
            elif code == 39:
                style["colour"] = ""
            elif 30 <= code <= 37 or 90 <= code <= 97:
                style["colour"] = f"ansi-{ANSI_COLOURS[code % 10]}"
    return "".join(parts)


def html_output(body: str) -> dict:
    "An output that is HTML."
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": body}}


def page_output(output: dict) -> dict:
    "One saved output in the form that the page shows: coloured terminal text as HTML, a live widget as the picture that was saved with it."
    kind = output.get("output_type")
    if kind == "error":
        text = "\n".join(output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"])
        return html_output(f'<pre class="ansi ansi-error"><code>{ansi_html(text)}</code></pre>')
    if kind == "stream" and "\x1b[" in text_of(output["text"]):
        return html_output(f'<pre class="ansi"><code>{ansi_html(text_of(output["text"]).rstrip())}</code></pre>')
    data = output.get("data", {})
    if WIDGET in data:
        still = text_of(data.get("text/html", "")) or text_of(data.get("image/svg+xml", ""))
        if still:
            return html_output(f'<div class="still">\n<p class="live-only">A still of the widget. Its controls work in JupyterLab.</p>\n{still}\n</div>')
        return html_output('<p class="live-only">A widget stands here in JupyterLab.</p>')
    if "\x1b[" in text_of(data.get("text/plain", "")) and not any(name in data for name in ("text/html", "text/markdown", "image/png")):
        return html_output(f'<pre class="ansi"><code>{ansi_html(text_of(data["text/plain"]))}</code></pre>')
    return output


# ---------------------------------------------------------------------------------------------------------------- cells


def passed(outputs: list[dict]) -> int:
    "How many tests passed when a test cell was last run, as far as its output says."
    text = "".join(text_of(output.get("text", "")) for output in outputs)
    if count := re.search(r"(\d+) passed", text):
        return int(count[1])
    return sum(len(dots) for dots in re.findall(r"^(\.+)\s+\[", text, re.M))  # `pytest -qq` prints one dot a test


def shown(source: str) -> str:
    "The code of a cell as a page shows it: without directives, and without the lines marked `#| hide_line`."
    return "\n".join(line for line in code_of(source).split("\n") if not re.search(r"#\|\s*hide_line\s*$", line)).strip("\n")


def stage_cells(cells: list[dict], where: str, exported: Callable[[str, list[dict]], list[dict]] | None = None) -> list[dict]:
    """The cells of a page, from the cells of a notebook.

    where: names the notebook in errors. exported: makes the page's cells of the code and the outputs of a cell that is exported; without it
    they are shown like any other.
    """
    staged: list[dict] = []
    waiting: dict[str, str] = {}  # exercises whose solution has not been shown yet
    for cell in cells:
        source = text_of(cell["source"])
        if cell["cell_type"] != "code":
            staged.append({**cell, "source": source})
            continue
        found, code = directives(source), shown(source)
        outputs = [page_output(output) for output in cell.get("outputs", [])]
        if LEFT_OUT & found.keys():
            continue
        if "exercise" in found:
            staged.append(code_cell(stub(code)))
            waiting[found["exercise"]] = solution(code)
        elif "check" in found:
            staged.append(folded(code, "How answers are checked"))
        elif is_test(source):
            count = passed(cell.get("outputs", []))
            staged.append(folded(code, f"Tests ({count} passed)" if count else "Tests"))
        elif (called := re.match(r"check\(\s*[\"'](\w+)[\"']", code)) and called[1] in waiting:
            # The verdict stands with the solution that earned it, and not under the reader's empty stub
            staged += [code_cell(code), *_solution_cells(waiting.pop(called[1]), outputs)]
        elif exported and EXPORTED & found.keys():
            staged += exported(code, outputs)
        elif is_imports(source) and "code-fold" not in found:
            staged.append(folded(code, "Imports", outputs))
        elif code or outputs:
            options = {name.replace("-", "_"): value for name, value in found.items() if name in QUARTO_OPTIONS}
            staged.append(code_cell(code, outputs, **options))
    for name in waiting:
        raise DocsError(f'{where}: exercise {name!r} has no cell `check("{name}", ...)` after it')
    return staged


def _solution_cells(source: str, outputs: list[dict]) -> list[dict]:
    return [
        markdown_cell('<details class="solution">\n<summary>Solution</summary>\n'),
        code_cell(source, outputs),
        markdown_cell("</details>\n"),
    ]


def opening(cells: list[dict], where: str) -> tuple[str, str, list[dict]]:
    "The title and the one-line promise that open a notebook, and the cells that follow them."
    first = text_of(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    match = re.match(r"#\s+(.+?)\s*\n+(?:>\s*(.+?)\s*(?:\n|$))?(.*)", first + "\n", re.S)
    if not match:
        raise DocsError(f"{where}: the first cell must be markdown that opens with `# Title`, a blank line and `> a one-line promise`")
    rest = match[3].strip("\n")
    return match[1], match[2] or "", ([markdown_cell(rest)] if rest else []) + cells[1:]
