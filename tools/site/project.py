"""Write the Quarto project that the site is rendered from: a page for each notebook, the API's overview, the menu, and files of the repository that pages link to."""
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.site import DocsError, api, engines
from tools.site.cells import code_cell, markdown_cell, opening, stage_cells, text_of
from tools.site.links import link_names, repository_links

ROOT = Path(__file__).resolve().parent.parent.parent

# What the menu calls the folders of nbs/
CHAPTERS = {
    "00_vocabulary": "Vocabulary",
    "01_software": "Software engineering",
    "02_frameworks": "Frameworks",
    "03_parallel": "Distributed training",
    "04_compute": "Compute and its cost",
    "05_resources": "Resources",
    "06_tracking": "Tracking experiments",
    "07_all_in_one": "All in one",
}
OVERVIEW = "source/index.md"


@dataclass
class Stage:
    "The Quarto project that is being written."

    folder: Path  # where it is written
    root: Path  # of the repository
    modules: list[api.Module] = field(default_factory=list)
    main: dict[str, list[str]] = field(default_factory=dict)  # module -> the names that people use
    symbols: dict[str, str] = field(default_factory=dict)  # what prose calls a name -> its place
    words: set[str] = field(default_factory=set)  # main names that are ordinary words, and that prose means when it sets them in backticks
    files: dict[str, str] = field(default_factory=dict)  # file of the repository -> the page that shows it
    notes: list[str] = field(default_factory=list)  # what was left out, a line each

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def file_page(self, path: str) -> str:
        "The page that shows a file of the repository, written when it is first asked for."
        if path not in self.files:
            text = (self.root / path).read_text(encoding="utf-8")
            fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=2) + 3)
            head = front_matter(title=path, toc=False, search=False, **{"page-navigation": False})
            self.files[path] = f"files/{path}.md"
            self.write(self.files[path], f"{head}\n{fence} {{.default .file}}\n{text.rstrip()}\n{fence}\n")
        return self.files[path]


def written_pages(folder: Path) -> list[Path]:
    "The pages in `folder` (nbs/) that are no notebooks, such as the one on which one draws."
    return sorted(path for path in folder.glob("[0-9]*/*.md"))


def notebooks(folder: Path) -> list[Path]:
    "The notebooks in `folder` (nbs/) in reading order: the front page, the lessons, then those that make the package; a folder's index first."
    found = [path for path in folder.rglob("*.ipynb") if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    return sorted(found, key=lambda path: reading_order(path.relative_to(folder)))


def reading_order(name: Path) -> tuple:
    "What notebooks, named relative to nbs/, are sorted by: a folder's own notebooks come before those of folders in it."
    return name.parts[0] == "source", name.parent.as_posix() if len(name.parts) > 1 else "", name.name != "index.ipynb", name.name


def front_matter(**values: object) -> str:
    "YAML that opens a page."
    return "---\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000) + "---\n"


def stage_notebook(path: Path, stage: Stage) -> None:
    "Write the page of one notebook."
    name = path.relative_to(stage.root / "nbs").as_posix()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    title, promise, cells = opening(notebook["cells"], name)
    module = next((module for module in stage.modules if module.page == name), None)
    staged = api_cells(module, cells, stage) if module else stage_cells(cells, name)
    meant = imported(cells, stage.symbols)
    sure = stage.words | meant.keys() | set(module.exports if module else ())
    for cell in staged:
        if cell["cell_type"] == "markdown" and not cell["metadata"].pop("linked", False):
            text = repository_links(cell["source"], path, stage.root, stage.file_page)
            cell["source"] = link_names(text, stage.symbols | meant, "../" * name.count("/"), sure)
    head = {"title": title, **({"description": promise} if promise else {})}
    raw = {"cell_type": "raw", "metadata": {}, "source": front_matter(**head)}
    metadata = {key: value for key, value in notebook["metadata"].items() if key in ("kernelspec", "language_info")}
    page = {"cells": [raw, *staged], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    stage.write(name, json.dumps(page, ensure_ascii=False, indent=1))


def imported(cells: list[dict], symbols: dict[str, str]) -> dict[str, str]:
    "The names of the package that a notebook imports, with their places: in its prose they mean just that."
    found = {}
    for cell in cells:
        for module, names in re.findall(rf"^from {api.PACKAGE}\.?([\w.]*) import (\([^)]*\)|.*)", text_of(cell["source"]), re.M):
            for name in re.findall(r"\w+", names):
                place = symbols.get(f"{module}.{name}") or symbols.get(name)
                if place:
                    found[name] = place
    return found


def api_cells(module: api.Module, cells: list[dict], stage: Stage) -> list[dict]:
    "The cells of a source notebook's page: what the module is for, its names, then the notebook, its tests folded at the end."
    page = api.ApiPage(module, stage.main.get(module.name, []), stage.symbols)
    staged = stage_cells(cells, module.page, page.exported)
    for cell in staged:
        if cell["cell_type"] == "markdown" and not cell["metadata"].get("linked"):
            cell["source"] = re.sub(r"^#{1,6} [^{}\n]+$", lambda match: apart(match[0], module.exports), cell["source"], flags=re.M)
    names = api.package_names(module, stage.modules, stage.main) if module.is_package else page.names()
    purpose = next((n for n, cell in enumerate(staged) if cell["cell_type"] == "code" or cell["source"].startswith(("#", "<span"))), len(staged))
    staged.insert(purpose, {**markdown_cell(names), "metadata": {"linked": True}})
    tests = next((n for n, cell in enumerate(staged) if cell["cell_type"] == "markdown" and re.match(r"##? Tests\b", cell["source"])), None)
    return staged if tests is None else staged[:tests] + fold_tests(staged[tests:])


def apart(heading: str, names: list[str]) -> str:
    "A heading of the prose, with a place of its own if it would take that of a name."
    place = "-".join(re.sub(r"[^\w\s.-]", "", heading).lower().split())
    return f"{heading} {{#about-{place}}}" if place in names else heading


def fold_tests(cells: list[dict]) -> list[dict]:
    "The section of tests with all its cells behind one click."
    heading, _, text = cells[0]["source"].partition("\n")
    count = sum(int(match[1]) for cell in cells if (match := re.search(r'code-summary: "Tests \((\d+) passed\)"', cell["source"])))
    summary = f"{count} tests, all passed when this notebook was last run" if count else "The tests"
    plain = [code_cell(re.sub(r"\A(#\|.*\n)+", "", cell["source"]), cell["outputs"]) if cell["cell_type"] == "code" else cell for cell in cells[1:]]
    return [
        markdown_cell(f"{heading}\n\n{text.strip()}\n\n<details class=\"tests\">\n<summary>{summary}</summary>\n"),
        *plain,
        markdown_cell("</details>\n"),
    ]


def menu(pages: list[str], overview: str | None = OVERVIEW) -> dict:
    """The sidebar, from the pages (relative to nbs/): the front page, a section for each folder of lessons, then the API by package.

    overview: the page that lists all modules, if there is one.
    """
    contents: list = []
    sections: dict[str, list] = {}

    def section(key: str, into: list, **head: object) -> list:
        if key not in sections:
            sections[key] = []
            into.append({**head, "contents": sections[key]})
        return sections[key]

    for page in sorted(pages, key=lambda page: reading_order(Path(page))):
        folder, _, name = page.rpartition("/")
        if not folder:
            contents.append({"text": "Start here", "href": page} if name == "index.ipynb" else page)
        elif page.startswith("source/"):
            top = section("source", contents, section="API")
            if overview and not top:
                top.append({"text": "All modules", "href": overview})
            package = folder.removeprefix("source").strip("/").replace("/", ".")
            head = {"href": page} if name == "index.ipynb" else {}
            inside = section(f"package {package}", top, section=f"{api.PACKAGE}.{package}".rstrip("."), **head)
            if not head:
                inside.append({"text": name.removesuffix(".ipynb"), "href": page})
        else:
            chapter = folder.partition("/")[0]
            title = CHAPTERS.get(chapter, chapter.lstrip("0123456789_").replace("_", " ").capitalize())
            section(chapter, contents, section=title).append(page)
    return {"website": {"sidebar": {"contents": contents}}}


def stage_project(folder: Path, root: Path = ROOT, fetch: bool = True) -> Stage:
    """Write the whole Quarto project into `folder`, which is emptied first.

    fetch: take the engines of the page that reads digits from the npm registry, or from what was fetched before; without, the page goes without them.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    source = root / "nbs"
    if not (source / "index.ipynb").is_file():
        raise DocsError("nbs/index.ipynb is missing: it is the front page")
    for path in source.rglob("*"):
        name = path.relative_to(source)
        hidden = any(part[0] in "._" for part in name.parts)
        if path.is_file() and not hidden and path.suffix not in (".ipynb", ".py", ".yml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    shutil.copyfile(root / "_quarto.yml", folder / "_quarto.yml")
    shutil.copyfile(Path(__file__).parent / "favicon.svg", folder / "favicon.svg")
    stage = Stage(folder, root, api.modules(root))
    stage.main = api.all_main_names(stage.modules, root)
    stage.symbols = api.symbols(stage.modules, stage.main)
    stage.words = {name for names in stage.main.values() for name in names if len(name) > 3}
    pages = notebooks(source)
    for path in pages:
        stage_notebook(path, stage)
    if stage.modules:
        head = front_matter(title="API", description="Every module of the package. Its page is the notebook that makes it: why it is so, each name with an example, and the tests")
        stage.write(OVERVIEW, f"{head}\n{api.overview(stage.modules, stage.main)}")
    if (source / f"{engines.PAGE}.md").is_file():
        stage.notes += engines.write_files(folder / engines.PAGE, root / ".make" / "engines" if fetch else None)
    names = [path.relative_to(source).as_posix() for path in [*pages, *written_pages(source)]]
    stage.write("sidebar.yml", yaml.safe_dump(menu(names), sort_keys=False, allow_unicode=True))
    # nbdev's own nbdev.yml names addresses, of which there are none yet
    stage.write("nbdev.yml", yaml.safe_dump({"project": {"output-dir": "_docs"}}))
    return stage
