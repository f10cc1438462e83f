"""Build the site: `python -m tools.docs` writes `_docs/`, with no network.

Four steps. *Stage* turns every notebook into the notebook that the page shows (`_proc/`): exercises cut to their stubs, solutions,
checks and tests folded away, planted mistakes left out. *Document* writes a page for every module and for its source. *Render* makes
HTML of `_proc/` with smalldocs, a small pure-Python reader of Quarto's own `_quarto.yml`. *Finish* turns formulas into MathML
(with pandoc, as Quarto does for `html-math-method: mathml`, so that no script and no font has to be loaded) and refuses a site with
a broken link, a formula that cannot be read, or anything that a browser would fetch from another machine.

`_proc/` is an ordinary Quarto project as well: `python -m tools.docs --stage` and then `quarto render _proc` give the same site.
"""

import argparse
import ast
import functools
import html
import html.parser
import http.server
import importlib
import inspect
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import textwrap
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "nbs"
PACKAGE = "fsdl_course"

# What the menu calls the folders of nbs/.
CHAPTERS = {
    "00_vocabulary": "Vocabulary",
    "01_software": "Software engineering",
    "02_frameworks": "Frameworks",
    "03_parallel": "Distributed training",
    "04_compute": "Compute and its cost",
    "05_resources": "Resources",
    "06_tracking": "Tracking experiments",
    "07_all_in_one": "All in one",
    "source": "API: the package and how it is made",
}

DIRECTIVE = re.compile(r"#\|\s*(?P<name>[\w-]+)(?P<colon>:?)\s*(?P<value>.*)")
# Options that Quarto reads from a code cell; every other `#|` line is for the course's own tools and is not shown.
QUARTO_OPTIONS = {
    "code-fold", "code-summary", "code-line-numbers", "code-overflow", "column", "echo", "fig-align", "fig-alt", "fig-cap",
    "fig-column", "include", "label", "layout-ncol", "layout-nrow", "output", "tbl-cap", "tbl-column",
}  # fmt: skip
EXPORTED = {"export", "exports", "exporti"}
LONG = 30  # lines of a package's cell that a page shows openly; a longer one is folded, so that the lesson's thread stays in sight
LEFT_OUT = {"hide", "default_exp", "mutant", "says"}
WIDGET = "application/vnd.jupyter.widget-view+json"


class DocsError(Exception):
    "The site cannot be built; the message says what to change."


# ---------------------------------------------------------------------------------------------------------------- cells


def directives(source: str) -> tuple[dict[str, str], str]:
    "The `#|` lines that open a code cell as {name: value}, and the code without them."
    lines = source.split("\n")
    found: dict[str, str] = {}
    while lines and (match := DIRECTIVE.fullmatch(lines[0].strip())):
        found[match["name"]] = match["value"].strip()
        lines.pop(0)
    return found, "\n".join(lines).strip("\n")


def code_cell(source: str, outputs: list | None = None, **options: str) -> dict:
    "A code cell with Quarto options (`code_fold=` for `#| code-fold:`)."
    head = "".join(f"#| {name.replace('_', '-')}: {value}\n" for name, value in options.items())
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs or [], "source": head + source}


def markdown_cell(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def folded(source: str, summary: str, outputs: list | None = None) -> dict:
    return code_cell(source, outputs, code_fold="true", code_summary=json.dumps(summary, ensure_ascii=False))


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


def _text(value: str | list[str]) -> str:
    return "".join(value) if isinstance(value, list) else value


def _html_output(body: str) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": body}}


def page_output(output: dict) -> dict:
    "One saved output in the form that the page shows: coloured terminal text as HTML, a live widget as a note."
    kind = output.get("output_type")
    if kind == "error":
        text = "\n".join(output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"])
        return _html_output(f'<pre class="ansi ansi-error"><code>{ansi_html(text)}</code></pre>')
    if kind == "stream" and "\x1b[" in _text(output["text"]):
        return _html_output(f'<pre class="ansi"><code>{ansi_html(_text(output["text"]).rstrip())}</code></pre>')
    data = output.get("data", {})
    if WIDGET in data:
        return _html_output("<p class='live-only'>Open this lesson in JupyterLab to use the widget that stands here.</p>")
    if "\x1b[" in _text(data.get("text/plain", "")) and not any(name in data for name in ("text/html", "text/markdown", "image/png")):
        return _html_output(f'<pre class="ansi"><code>{ansi_html(_text(data["text/plain"]))}</code></pre>')
    return output


def _test_summary(outputs: list[dict]) -> str:
    "The summary of a folded test cell: how many tests passed when the notebook was last run, if it says so."
    text = "".join(_text(output.get("text", "")) for output in outputs)
    passed = re.search(r"(\d+) passed", text)
    if passed:
        count = int(passed[1])
    else:  # `pytest -qq` prints one dot a test
        count = sum(len(dots) for dots in re.findall(r"^(\.+)\s+\[", text, re.M))
    return f"Tests ({count} passed)" if count else "Tests"


def _defined(source: str) -> str:
    "The summary of a folded cell of the package: what it defines, and how long it is."
    tree = ast.parse(source).body
    names = [node.name for node in tree if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    shown = [name for name in names if not name.startswith("_")] or names or (["imports"] if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree) else ["code"])
    return f"{', '.join(shown[:6])}{', ...' * (len(shown) > 6)} ({len(source.splitlines())} lines)"


def stage_cells(cells: list[dict], where: str) -> list[dict]:
    "The cells of a page, from the cells of a notebook; `where` names the notebook in errors."
    from fsdl_course.handout import solution, stub

    staged: list[dict] = []
    waiting: dict[str, str] = {}  # exercises whose solution has not been shown yet
    for cell in cells:
        source = _text(cell["source"])
        if cell["cell_type"] != "code":
            staged.append({**cell, "source": source})
            continue
        found, code = directives(source)
        outputs = [page_output(output) for output in cell.get("outputs", [])]
        if LEFT_OUT & found.keys() or re.fullmatch(r"(import nbdev\s*;?\s*)?(nbdev\.)?nbdev_export\(\)", code.strip()):
            continue
        code = "\n".join(line for line in code.split("\n") if not re.search(r"#\|\s*hide_line\s*$", line))
        if "exercise" in found:
            staged.append(code_cell(stub(code)))
            waiting[found["exercise"]] = solution(code)
        elif "check" in found:
            staged.append(folded(code, "How answers are checked"))
        elif code.startswith("%%ipytest"):
            staged.append(folded(code.partition("\n")[2].strip("\n"), _test_summary(cell.get("outputs", []))))
        elif (called := re.match(r"check\(\s*[\"'](\w+)[\"']", code.strip())) and called[1] in waiting:
            # The verdict stands with the solution that earned it, and not under the reader's empty stub.
            staged += [code_cell(code), *_solution_cells(waiting.pop(called[1]), outputs)]
        elif EXPORTED & found.keys() and code.count("\n") >= LONG and "code-fold" not in found:
            staged.append(folded(code, _defined(code), outputs))
        elif code.strip() or outputs:
            options = {name.replace("-", "_"): value for name, value in found.items() if name in QUARTO_OPTIONS}
            staged.append(code_cell(code, outputs, **options))
    for name, text in waiting.items():
        raise DocsError(f'{where}: exercise {name!r} has no cell `check("{name}", ...)` after it')
    return staged


def _solution_cells(source: str, outputs: list[dict]) -> list[dict]:
    return [
        markdown_cell('<details class="solution">\n<summary>Solution</summary>\n'),
        code_cell(source, outputs),
        markdown_cell("</details>\n"),
    ]


# ---------------------------------------------------------------------------------------------------------------- pages


@dataclass
class Stage:
    "The Quarto project that is being written."

    folder: Path  # where it is written
    titles: dict[str, str] = field(default_factory=dict)  # page (path without suffix) -> title
    symbols: dict[str, str] = field(default_factory=dict)  # exported name -> its place on an API page; "" if two modules export it
    sources: dict[str, str] = field(default_factory=dict)  # file of the repository -> the page that shows its source

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def notebooks(folder: Path = NOTEBOOKS) -> list[Path]:
    "The notebooks of the course in reading order: the front page, then by number."
    found = [path for path in folder.rglob("*.ipynb") if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    return sorted(found, key=lambda path: (path != folder / "index.ipynb", path.relative_to(folder).as_posix()))


def front_matter(**values: object) -> str:
    return "---\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000) + "---\n"


def _title(cells: list[dict], path: Path) -> tuple[str, str, list[dict]]:
    "The title and the one-line promise that open a notebook, and the cells that follow them."
    first = _text(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    match = re.match(r"#\s+(.+?)\s*\n+(?:>\s*(.+?)\s*(?:\n|$))?(.*)", first + "\n", re.S)
    if not match:
        raise DocsError(f"{path}: the first cell must be markdown that opens with `# Title`, a blank line and `> a one-line promise`")
    rest = match[3].strip("\n")
    return match[1], match[2] or "", ([markdown_cell(rest)] if rest else []) + cells[1:]


NO_NAMES = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|^#[^\n]*$|^[ \t]*<[^\n]*$|\[[^\]]*\]\([^)]*\)|\$\$.*?\$\$|\$[^$\n]+\$)", re.M | re.S)


def link_names(text: str, symbols: dict[str, str], prefix: str) -> str:
    "Link each name of the package that prose sets in backticks to its API page, the first time it stands in a cell."
    seen: set[str] = set()

    def link(match: re.Match) -> str:
        place = symbols.get(match[1])
        if not place or match[1] in seen:
            return match[0]
        seen.add(match[1])
        return f"[{match[0]}]({prefix}{place})"

    parts = NO_NAMES.split(text)
    return "".join(part if n % 2 else re.sub(r"(?<![`\w\[])`([A-Za-z_][\w.]*)(?:\(\))?`(?![`\w\]])", link, part) for n, part in enumerate(parts))


LINK = re.compile(r"(?<!\\)(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)((?:\s+\"[^\"]*\")?)\)")


def repository_links(text: str, here: Path, stage: Stage, root: Path) -> str:
    "Point links that leave the notebooks' folder (`../settings.ini`, `../../fsdl_course/spec.py`) to pages that show those files."
    folder = here.parent

    def link(match: re.Match) -> str:
        bang, label, href, title = match.groups()
        path, hash_, fragment = href.partition("#")
        if not path or re.match(r"[a-z][a-z0-9+.-]*:|//|/", path) or (folder / path).exists() and (folder / path).resolve().is_relative_to(root / "nbs"):
            return match[0]
        for start in (folder, root):  # the front page is also the README, which stands at the root
            target = Path(os.path.normpath(start / urllib.parse.unquote(path)))
            if target.is_relative_to(root / "nbs") and target.is_file():
                break
            if target.is_file() and target.is_relative_to(root):
                break
            if target.is_dir() and target.is_relative_to(root) and not bang:
                return label
        else:
            return match[0]
        up = "../" * len(here.relative_to(root / "nbs").parent.parts)
        if target.is_relative_to(root / "nbs"):
            place = target.relative_to(root / "nbs").as_posix()
        else:
            place = source_page(target.relative_to(root).as_posix(), stage, root)
        return f"{bang}[{label}]({up}{place}{hash_}{fragment}{title})"

    parts = re.split(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|`[^`\n]+`(?!\]))", text, flags=re.M | re.S)
    return "".join(part if n % 2 else LINK.sub(link, part) for n, part in enumerate(parts))


def stage_notebook(path: Path, stage: Stage, root: Path = ROOT) -> None:
    "Write the page of one notebook."
    source = root / "nbs"
    name = path.relative_to(source)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    title, promise, cells = _title(notebook["cells"], name)
    up = "../" * len(name.parent.parts)
    staged = stage_cells(cells, str(name))
    for cell in staged:
        if cell["cell_type"] == "markdown":
            cell["source"] = link_names(repository_links(cell["source"], path, stage, root), stage.symbols, up)
    head = {"title": title, "description": promise} if promise else {"title": title}
    raw = {"cell_type": "raw", "metadata": {}, "source": front_matter(**head)}
    metadata = {key: value for key, value in notebook["metadata"].items() if key in ("kernelspec", "language_info")}
    page = {"cells": [raw, *staged], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    stage.titles[name.with_suffix("").as_posix()] = title
    stage.write(name.as_posix(), json.dumps(page, ensure_ascii=False, indent=1))


LANGUAGES = {".py": "python", ".toml": "toml", ".ini": "ini", ".yml": "yaml", ".md": "markdown", ".csv": "", ".json": "json"}


def source_page(path: str, stage: Stage, root: Path) -> str:
    "The page that shows the file `path` of the repository with numbered lines, written when it is first asked for; line 42 is `#L-42`."
    if path not in stage.sources:
        text = (root / path).read_text(encoding="utf-8")
        # The renderer leaves out pages whose names begin with an underscore
        page = f"source/{path.removesuffix('.py') if path.endswith('.py') else path}.md".replace("__init__", "package")
        language = LANGUAGES.get(Path(path).suffix, "makefile" if Path(path).name == "Makefile" else "")
        fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=2) + 3)
        attributes = f'#L .{language or "default"} .numberLines .source-file code-line-numbers="true"'
        head = front_matter(**{"title": path, "pagetitle": path, "toc": False, "search": False, "sidebar": False, "page-navigation": False})
        stage.write(page, f"{head}\n{fence} {{{attributes}}}\n{text.rstrip()}\n{fence}\n")
        stage.sources[path] = page
    return stage.sources[path]


# ------------------------------------------------------------------------------------------------------------ API pages


def modules(package: Path) -> list[str]:
    "The dotted names of the package's public modules in the order of their paths; packages are left out, since they only re-export."
    found = []
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        if not any(part.startswith("_") for part in parts) and _exports(path):
            found.append(".".join(parts))
    return sorted(found)


def _exports(path: Path) -> list[str]:
    "The names in a module's `__all__`, read without importing it."
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def _module_file(package: Path, name: str) -> Path:
    return package.joinpath(*name.split(".")).with_suffix(".py")


def api_names(package: Path, stage: Stage) -> None:
    "Note where each exported name will be documented, before any page is written."
    for module in modules(package):
        for name in _exports(_module_file(package, module)):
            place = f"api/{module.replace('.', '/')}.md#{name}"
            stage.symbols[name] = "" if name in stage.symbols else place
            stage.symbols[f"{module}.{name}"] = place


def _header(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, source: str) -> str:
    "How a function or class begins, as its author wrote it, comments included: the signature, or a dataclass with its fields."
    lines = source.split("\n")
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if isinstance(node, ast.ClassDef):
        fields = [item for item in body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.target.id.startswith("_")]
        made = next((item for item in body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        head = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]))
        shown = [lines[item.lineno - 1 : item.end_lineno] for item in fields]
        shown += [_header(made, source).split("\n")] if made else []
        inside = textwrap.dedent("\n".join(line for part in shown for line in part))
        marks = "".join(f"@{ast.unparse(item)}\n" for item in node.decorator_list)
        return f"{marks}{head}\n{textwrap.indent(inside, '    ')}".rstrip()
    marks = [f"@{ast.unparse(item)}" for item in node.decorator_list]
    first = node.body[0].lineno
    head = textwrap.dedent("\n".join(lines[node.lineno - 1 : first - 1])) if first > node.lineno else f"def {node.name}({ast.unparse(node.args)}): ..."
    if "\n" not in head and len(head) > 88:  # one parameter a line
        parts = _parameters(node.args)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        head = f"def {node.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}:"
    return "\n".join([*marks, head])


def _parameters(arguments: ast.arguments) -> list[str]:
    "The parameters of a function, each as Python writes it, with the bare `/` and `*` between them."
    text = ast.unparse(arguments)
    tree = ast.parse(f"def f({text}): ...").body[0]
    starts = sorted(item.col_offset for item in ast.walk(tree.args) if isinstance(item, ast.arg))
    line = f"def f({text}"
    cuts = [line.rfind(",", 0, start) for start in starts[1:]]
    pieces, last = [], len("def f(")
    for cut in [*cuts, len(line)]:
        pieces.append(line[last:cut].strip())
        last = cut + 1
    return pieces


def _value(name: str, value: object) -> str:
    "A line or two about an exported constant."
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        kinds = sorted({type(item).__name__ for item in value.values()})
        return f"`dict` of {len(value)} `{'`, `'.join(kinds)}`: " + ", ".join(f"`{key}`" for key in value)
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return f"```python\n{name} = {text if len(text) <= 400 else text[:400] + ' ...'}\n```"


def _definitions(path: Path) -> dict[str, ast.stmt]:
    "The definition of each top-level name of a module, and of each method of its classes."
    found: dict[str, ast.stmt] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.setdefault(prefix + node.name, node)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        found.setdefault(prefix + target.id, node)

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def api_page(module: str, package: Path, stage: Stage, root: Path) -> None:
    "Write the API page of one module: every exported name with its signature, docstring and a link to its source."
    path = _module_file(package, module)
    text = path.read_text(encoding="utf-8")
    full = f"{package.name}.{module}"
    try:
        loaded = importlib.import_module(full)
    except Exception as error:
        raise DocsError(f"{path.relative_to(root)} cannot be imported for its API page: {type(error).__name__}: {error}") from error
    up = "../" * (module.count(".") + 1)
    source = up + source_page(path.relative_to(root).as_posix(), stage, root)
    definitions = _definitions(path)
    origins = dict.fromkeys(Path(name).with_suffix("").as_posix() for name in re.findall(r"^# %% (?:\.\./)*nbs/(\S+\.ipynb)", text, re.M))
    lessons = ", ".join(f"[{stage.titles[name]}]({up}{name}.ipynb)" for name in origins if name in stage.titles)
    summary = inspect.cleandoc(loaded.__doc__ or "").partition("\n\n")[0]
    parts = [front_matter(**{"title": full, **({"description": summary} if summary else {})})]
    parts.append((f"Built in {lessons} · " if lessons else "") + f"[source]({source})\n")

    def entry(level: int, name: str, body: str) -> None:
        node = definitions.get(name)
        line = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))]) if node else 0
        place = f"[source]({source}#L-{line}){{.source-link}}\n\n" if node else ""
        others = {key: value for key, value in stage.symbols.items() if key != name}
        parts.append(f"{'#' * level} `{name}` {{#{name}}}\n\n{place}{link_names(body, others, up)}\n")

    def described(node: ast.FunctionDef | ast.ClassDef) -> str:
        return f"```python\n{_header(node, text)}\n```\n\n{ast.get_docstring(node) or ''}"

    for name in _exports(path):
        node = definitions.get(name)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            entry(2, name, _value(name, getattr(loaded, name)))
            continue
        entry(2, name, described(node))
        for item in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and not item.name.startswith("_") and ast.get_docstring(item):
                entry(3, f"{name}.{item.name}", described(item))
    stage.titles[f"api/{module.replace('.', '/')}"] = full
    stage.write(f"api/{module.replace('.', '/')}.md", "\n".join(parts))


def api_index(names: list[str], package: Path, stage: Stage) -> None:
    "Write the page that lists all modules with their first line."
    rows = []
    for module in names:
        doc = inspect.cleandoc(sys.modules[f"{package.name}.{module}"].__doc__ or "").partition("\n")[0].replace("|", "\\|")
        exported = " ".join(f"[`{name}`]({module.replace('.', '/')}.md#{name})" for name in _exports(_module_file(package, module)))
        rows.append(f"## [`{package.name}.{module}`]({module.replace('.', '/')}.md)\n\n{doc}\n\n{exported}\n")
    stage.write("api/index.md", front_matter(title="API", description="Every name that the lessons export into the package") + "\n" + "\n".join(rows))


# -------------------------------------------------------------------------------------------------------------- project


def menu(pages: list[Path], names: list[str], source: Path) -> dict:
    "The sidebar: the front page, the lessons in reading order, then the API."
    contents: list = []
    sections: dict[str, dict] = {}
    for path in pages:
        name = path.relative_to(source)
        if len(name.parts) == 1:
            contents.append({"text": "Start here", "href": "index.ipynb"} if name.name == "index.ipynb" else name.as_posix())
            continue
        folder = name.parts[0]
        if folder not in sections:
            sections[folder] = {"section": CHAPTERS.get(folder, folder.lstrip("0123456789_").replace("_", " ").capitalize()), "contents": []}
            contents.append(sections[folder])
        sections[folder]["contents"].append(name.as_posix())
    api = [{"text": "All modules", "href": "api/index.md"}] + [{"text": name, "href": f"api/{name.replace('.', '/')}.md"} for name in names]
    return {"website": {"sidebar": {"contents": [*contents, {"section": "API", "contents": api}]}}}


def stage_project(folder: Path, root: Path = ROOT) -> Stage:
    "Write the whole Quarto project into `folder`, which is emptied first."
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    stage = Stage(folder)
    source, package = root / "nbs", root / PACKAGE
    pages = notebooks(source)
    if source / "index.ipynb" not in pages:
        raise DocsError("nbs/index.ipynb is missing: it is the front page")
    for path in source.rglob("*"):
        name = path.relative_to(source)
        hidden = any(part[0] in "._" for part in name.parts)
        if path.is_file() and not hidden and path.suffix not in (".ipynb", ".py") and name.as_posix() != "sidebar.yml":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    shutil.copyfile(root / "_quarto.yml", folder / "_quarto.yml")
    shutil.copyfile(root / "tools" / "site" / "favicon.svg", folder / "favicon.svg")
    api_names(package, stage)
    for path in pages:
        stage_notebook(path, stage, root)
    names = modules(package)
    for module in names:
        api_page(module, package, stage, root)
    api_index(names, package, stage)
    stage.write("sidebar.yml", yaml.safe_dump(menu(pages, names, source), sort_keys=False, allow_unicode=True))
    return stage


# --------------------------------------------------------------------------------------------------------------- finish

MATHS = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)


def mathml(formulas: list[tuple[str, bool]]) -> dict[tuple[str, bool], str]:
    "MathML for TeX formulas, each given as (TeX, whether it stands on a line of its own); an unreadable formula is an error."
    if not formulas:
        return {}
    try:
        import pypandoc

        pandoc = pypandoc.get_pandoc_path()
    except (ImportError, OSError):
        raise DocsError("pandoc is needed for formulas: pip install pypandoc_binary (or `make docs`, which installs it)") from None
    wanted = list(dict.fromkeys(formulas))
    version = json.loads(subprocess.run([pandoc, "-f", "markdown", "-t", "json"], input="", capture_output=True, text=True, check=True).stdout)["pandoc-api-version"]
    blocks = [
        {"t": "Div", "c": [[f"formula-{n}", [], []], [{"t": "Plain", "c": [{"t": "Math", "c": [{"t": "DisplayMath" if display else "InlineMath"}, tex]}]}]]}
        for n, (tex, display) in enumerate(wanted)
    ]
    document = json.dumps({"pandoc-api-version": version, "meta": {}, "blocks": blocks})
    done = subprocess.run([pandoc, "-f", "json", "-t", "html", "--mathml", "--wrap=none"], input=document, capture_output=True, text=True, check=True)
    if "Could not convert TeX math" in done.stderr:
        raise DocsError(f"a formula cannot be read:\n{done.stderr.strip()}")
    found = {int(n): body for n, body in re.findall(r'<div id="formula-(\d+)">\s*(<math.*?</math>)\s*</div>', done.stdout, re.S)}
    # The TeX that pandoc keeps inside as an annotation is never shown; without it the page is smaller and has no TeX to index.
    return {formula: re.sub(r"<annotation.*?</annotation>", "", found[n], flags=re.S) for n, formula in enumerate(wanted)}


def finish_maths(site: Path) -> int:
    "Replace every formula on the pages and in the search index by MathML or its plain text; return how many there are."
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    formulas = [(html.unescape(tex), kind == "display") for text in texts.values() for kind, tex in MATHS.findall(text)]
    made = mathml(formulas)
    for path, text in texts.items():
        new = MATHS.sub(lambda match: f'<span class="math {match[1]}">{made[html.unescape(match[2]), match[1] == "display"]}</span>', text)
        new = re.sub(r"\s*<(?:link|script)\b[^>]*cdn\.jsdelivr\.net/npm/katex@[^>]*>(?:</script>)?", "", new)
        if new != text:
            path.write_text(new, encoding="utf-8")
    index = site / "search.json"
    plain = {tex: re.sub(r"<[^>]+>", "", made[tex, display]) for tex, display in made}
    entries = json.loads(index.read_text(encoding="utf-8"))
    for entry in entries:
        for tex in sorted(plain, key=len, reverse=True):
            if len(tex) > 3 or "\\" in tex:
                entry["text"] = entry["text"].replace(tex, html.unescape(plain[tex]))
    index.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return len(formulas)


def drop_web_fonts(site: Path) -> None:
    "Drop the themes' imports of fonts from another host; the pages use the fonts of the reader's system."
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(r"""@import\s*(?:url\(\s*)?(?:"https?:[^"]*"|'https?:[^']*'|https?:[^)]*)\s*\)?\s*;""", "", text)
        if new != text:
            path.write_text(new, encoding="utf-8")


class _Page(html.parser.HTMLParser):
    "What a page holds that matters here: its ids, its links, and what it makes the browser load."

    LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src", "object": "data", "image": "href", "use": "href"}

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "modulepreload", "shortcut icon"):
            self.loads.append(values.get("href", ""))
        for name in ("src", "xlink:href", "data", "href"):
            if name in values and (self.LOADED.get(tag) == name or (tag in ("image", "use") and name == "xlink:href")):
                self.loads.append(values[name])
        self.loads += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        self.loads += re.findall(r"url\(\s*['\"]?([^'\")]+)", values.get("style", ""))
        self.in_style = tag == "style"

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.loads += re.findall(r"(?:url\(\s*|@import\s+)['\"]?([^'\");]+)", data)

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False


def problems(site: Path) -> list[str]:
    "Broken links between pages, files that pages load but that are not there, and anything that would be fetched from another host."
    found = []
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}

    def where(path: Path) -> str:
        return path.relative_to(site).as_posix()

    def target_of(path: Path, href: str) -> tuple[Path, str]:
        parts = urllib.parse.urlsplit(href)
        place = urllib.parse.unquote(parts.path)
        target = path if not place else site / place.lstrip("/") if place.startswith("/") else path.parent / place
        target = Path(posixpath.normpath(target))
        return (target / "index.html" if target.is_dir() else target), urllib.parse.unquote(parts.fragment)

    for path, page in pages.items():
        for href in page.loads:
            if re.match(r"(https?:)?//", href):
                found.append(f"{where(path)}: loads {href}")
            elif not href.startswith(("data:", "#", "blob:")) and not target_of(path, href)[0].is_file():
                found.append(f"{where(path)}: {href} is not there")
        for href in page.links:
            if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", href):
                continue
            target, fragment = target_of(path, href)
            if not target.is_file():
                found.append(f"{where(path)}: broken link {href}")
            elif fragment and target in pages and fragment not in pages[target].ids:
                found.append(f"{where(path)}: broken link {href} (no such place on that page)")
    for path in sorted(site.rglob("*.css")):
        for href in re.findall(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^'\");]+)", path.read_text(encoding="utf-8")):
            found.append(f"{where(path)}: loads {href}")
    return list(dict.fromkeys(found))


def build(out: Path = ROOT / "_docs", staging: Path = ROOT / "_proc", root: Path = ROOT) -> list[str]:
    "Build the site into `out`, by way of `staging`, and return its pages; `out` is replaced only once the whole site is right."
    try:
        from smalldocs.site import build as render
    except ImportError:
        raise DocsError('smalldocs is missing: pip install -e ".[docs]" (or `make docs`, which installs it)') from None

    stage_project(staging, root)
    built = render(staging, quiet=True)
    site = built.out
    # Its formulas are MathML, which `html-math-method` asks of Quarto and `finish_maths` gives here.
    notes = [note for note in built.warnings if "html-math-method" not in note and "broken link" not in note]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    finish_maths(site)
    drop_web_fonts(site)
    wrong = problems(site)
    if wrong:
        raise DocsError("the site is not right:\n  " + "\n  ".join(wrong))
    if out.exists():
        if any(out.iterdir()) and not (out / "site_libs").is_dir():
            raise DocsError(f"{out} is not empty and holds no site; give another folder, or empty it yourself")
        shutil.rmtree(out)
    shutil.copytree(site, out)
    return [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.html"))]


def serve(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    "A server for the site on this machine; `port` 0 takes a free one. Call its `serve_forever`."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Quiet, directory=str(folder)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="Build the site into _docs/.")
    parser.add_argument("--stage", action="store_true", help="only write _proc/, for `quarto render _proc`")
    parser.add_argument("--serve", type=int, nargs="?", const=8000, metavar="PORT", help="then show the site at http://localhost:PORT (8000)")
    options = parser.parse_args()
    try:
        if options.stage:
            stage_project(ROOT / "_proc")
            print("_proc/ is ready: quarto render _proc")
            return 0
        pages = build()
    except DocsError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    print(f"_docs/ holds {len(pages)} pages. To read them: python -m tools.docs --serve")
    if options.serve:
        with serve(ROOT / "_docs", options.serve) as server:
            print(f"http://localhost:{options.serve} (stop with Ctrl+C)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
