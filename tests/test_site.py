"""The site: what the builder does to a cell, and the built pages in a real browser."""
import gzip
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from browser import Watched, chromium, served

from tools import docs
from tools.site import DocsError, api, cells, finish, links, project

ROOT = Path(__file__).resolve().parent.parent
RAW_TEX = re.compile(r"\\(?:frac|text|left|right|begin|end|alpha|beta|sum|cdot|times|le|ge|mathrm|[()\[\]])|\$\$|(?<!\w)\$[^$\d\s][^$\n]*\$")


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": list(outputs), "execution_count": 1}


def stream(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text}


def sources(notebook: list[dict]) -> str:
    return "\n".join(cell["source"] for cell in cells.stage_cells(notebook, "test.ipynb"))


EXERCISE = [
    code('#| check double\n@checker("double")\ndef check_double(answer):\n    expect(answer(2) == 4, "2 gives 4")'),
    code('#| exercise double\ndef double(x):\n    "Twice `x`."\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION'),
    code('check("double", double)', stream("double: passed")),
    code("#| mutant double: adds\n#| says: gives\ndef adds(x):\n    return x + 3"),
]


# ------------------------------------------------------------------------------------------------------ without a browser


def test_an_exercise_shows_its_stub_and_folds_its_solution():
    staged = cells.stage_cells(EXERCISE, "test.ipynb")
    stub, call, opening, solution, closing = (cell["source"] for cell in staged[1:])
    assert "NotImplementedError" in stub and "return 2 * x" not in stub
    assert call == 'check("double", double)' and not staged[2]["outputs"]
    assert opening.startswith('<details class="solution">') and closing.strip() == "</details>"
    assert "return 2 * x" in solution and "SOLUTION" not in solution
    assert staged[4]["outputs"][0]["text"] == "double: passed"


def test_checks_and_tests_are_folded_and_mutants_left_out():
    check = cells.stage_cells(EXERCISE, "test.ipynb")[0]["source"]
    assert check.startswith('#| code-fold: true\n#| code-summary: "How answers are checked"\n@checker')
    assert "adds" not in sources(EXERCISE)
    test = cells.stage_cells([code("%%ipytest -q\n\ndef test_a():\n    assert True", stream(".. [100%]\n2 passed in 0.01s"))], "test.ipynb")[0]
    assert test["source"] == '#| code-fold: true\n#| code-summary: "Tests (2 passed)"\ndef test_a():\n    assert True'
    assert not test["outputs"]


def test_the_courses_own_directives_do_not_reach_the_page():
    notebook = [code("#| default_exp spec"), code("#| hide\nimport ipytest"), code("#| export ledger\nx = 1"), code("#| setup\ny = 2"), code("#| fig-cap: A ring\nz = 3")]
    assert sources(notebook) == "x = 1\ny = 2\n#| fig-cap: A ring\nz = 3"


def test_imports_are_folded_and_copied_answers_left_out():
    notebook = [code("import math\nfrom os import path"), code("import math\nx = math.pi"), code("#| copy ring: the package's\n#| says: yourself\nanswer = all_reduce"), code("#| copy ring\n#| fair\nb = 2")]
    staged = cells.stage_cells(notebook, "test.ipynb")
    assert [cell["source"] for cell in staged] == ['#| code-fold: true\n#| code-summary: "Imports"\nimport math\nfrom os import path', "import math\nx = math.pi"]


def test_a_widget_is_shown_by_the_picture_that_was_saved_with_it():
    live = {cells.WIDGET: {"model_id": "x"}, "text/plain": "Explorer()"}
    shown = [cells.page_output({"output_type": "execute_result", "data": live | more})["data"] for more in ({"text/html": ["<p>", "a</p>"]}, {"image/svg+xml": "<svg/>"}, {})]
    assert [list(data) for data in shown] == [["text/html"]] * 3
    assert "<p>a</p>" in shown[0]["text/html"] and "<svg/>" in shown[1]["text/html"] and "JupyterLab" in shown[2]["text/html"]


def test_an_exercise_without_a_check_call_is_an_error():
    with pytest.raises(DocsError, match=r"test.ipynb: exercise 'double' has no cell `check"):
        cells.stage_cells(EXERCISE[:2], "test.ipynb")


def test_terminal_colours_become_html():
    assert cells.ansi_html("\x1b[31mred\x1b[0m <a> \x1b[1;32mgo\x1b[39m bold\x1b[22m") == (
        '<span class="ansi-red">red</span> &lt;a&gt; <span class="ansi-green ansi-bold">go</span><span class="ansi-bold"> bold</span>'
    )
    assert cells.ansi_html("\x1b[38;5;12mx\x1b[2K") == "x"
    error = cells.page_output({"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: v"]})
    assert error["data"]["text/html"] == '<pre class="ansi ansi-error"><code><span class="ansi-red">E</span>: v</code></pre>'


def test_names_are_linked_in_prose_only():
    text = "# `Half`\n\nUse `Half` and `Half`.\n\n```python\n`Half`\n```\n\n[`Half`](x) and $`Half`$ `Halves`"
    linked = links.link_names(text, {"Half": "source/spec.ipynb#Half"}, "../")
    assert linked == text.replace("Use `Half`", "Use [`Half`](../source/spec.ipynb#Half)")


def test_an_ordinary_word_is_linked_only_where_it_must_be_a_name():
    places = {"count": "source/spec.ipynb#count"}
    assert links.link_names("`count`", places, "") == "`count`"
    for text, sure in (("`count()`", ()), ("`count`", {"count"}), ("`count` of [spec](../source/spec.ipynb)", ())):
        assert "](source/spec.ipynb#count)" in links.link_names(text, places, "", sure)
    assert project.imported([code("from fsdl_course.spec import (\n    Layout, count\n)")], {"spec.count": "there"}) == {"count": "there"}


SHAPES = '''"""Shapes, for a test"""
__all__ = ["SIDES", "Shape", "area"]
SIDES = 4  # of a square
class Shape:
    """A shape. It has sides.

    sides: how many. name: what it is called (`area` gives its size).
    """
    sides: int
    name: str = "square"
    def grow(self, by):
        "Larger by `by`."
    def _hidden(self):
        "No."
def area(shape, *, a_rather_long_name: float = 1.0, another_long_name: float = 2.0, and_one_more: int = 3) -> float:
    """The area | of `shape`."""
    return shape.sides
'''


@pytest.fixture
def shapes(tmp_path):
    "A package of one module and its notebook; its root."
    package, notebooks = tmp_path / api.PACKAGE, tmp_path / "nbs" / "source"
    package.mkdir()
    notebooks.mkdir(parents=True)
    (package / "shapes.py").write_text(SHAPES)
    (package / "__init__.py").write_text(f"from {api.PACKAGE}.shapes import area\n__all__ = ['area']\n")
    body = SHAPES.split("\n", 2)[2]
    constant, definitions = body.split("\n", 1)
    text = {"cell_type": "markdown", "metadata": {}}
    notebook = [
        text | {"source": "# fsdl_course.shapes\n\n> Shapes, for a test\n\nWhy they are so."},
        code("#| default_exp shapes"), code("#| export\nimport math"), code("#| export\n_half = 0.5\ndef _quarter(): ..."),
        code(f"#| export\n{constant}"), code(f"#| export\n{definitions}"), code("area(Shape())", stream("4")),
        text | {"source": "## Tests\n\nOf areas."}, code("%%ipytest -q\ndef test_area(): ...", stream("3 passed in 0.1s")),
    ]
    (notebooks / "shapes.ipynb").write_text(json.dumps({"cells": notebook, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return tmp_path


def test_an_api_page_is_its_notebook_with_the_names_first(shapes):
    stage = project.Stage(shapes / "_proc", shapes, api.modules(shapes))
    stage.main = api.all_main_names(stage.modules, shapes)
    stage.symbols = api.symbols(stage.modules, stage.main)
    assert stage.main == {"shapes": ["area"]}
    assert stage.symbols["Shape.grow"] == "source/shapes.ipynb#Shape.grow" and "Shape._hidden" not in stage.symbols
    project.stage_notebook(shapes / "nbs" / "source" / "shapes.ipynb", stage)
    page = [cell["source"] for cell in json.loads((shapes / "_proc" / "source" / "shapes.ipynb").read_text())["cells"]]
    assert page[1] == "Why they are so."
    assert "| [`area`](#area) | The area \\| of `shape` |" in page[2] and "Also here: [`Shape`](#Shape) · [`SIDES`](#SIDES)" in page[2]
    assert 'code-summary: "Imports"' in page[3] and 'code-summary: "_quarter (2 lines)"' in page[4]
    assert page[5:7] == ['<span id="SIDES"></span>', "SIDES = 4  # of a square"]
    assert page[7].startswith("### `Shape` {#Shape}\n\n```python\nclass Shape:\n    sides: int\n    name: str = \"square\"\n```\n\nA shape. It has sides.\n\n")
    assert "`sides`: how many. `name`: what it is called ([`area`](../source/shapes.ipynb#area) gives its size)." in page[7]
    assert page[8].startswith("#### `Shape.grow` {#Shape.grow}") and "`by`." in page[8]
    assert "def area(\n    shape,\n    *,\n    a_rather_long_name: float = 1.0,\n" in page[9]
    assert 'code-summary: "Source"' in page[10] and "_hidden" in page[10] and page[11] == "area(Shape())"
    assert page[12].startswith("## Tests\n\nOf areas.\n\n<details") and "3 tests, all passed" in page[12]
    assert page[13] == "def test_area(): ..." and page[14].strip() == "</details>"
    overview = api.overview(stage.modules, stage.main)
    assert "| [`shapes`](shapes.ipynb) | Shapes, for a test |" in overview and "[`area`](shapes.ipynb#area)" in overview


def test_a_notebook_that_was_not_exported_is_an_error(shapes):
    (shapes / api.PACKAGE / "shapes.py").unlink()
    with pytest.raises(DocsError, match="make export"):
        api.modules(shapes)


def test_a_name_of_two_modules_has_no_place_unless_one_is_the_main_one(shapes):
    (shapes / api.PACKAGE / "forms.py").write_text('"""Forms"""\n__all__ = ["area", "Shape"]\ndef area(): ...\nclass Shape: ...\n')
    (shapes / "nbs" / "source" / "forms.ipynb").write_text("{}")
    found = api.modules(shapes)
    places = api.symbols(found, api.all_main_names(found, shapes))
    assert places["area"] == "source/shapes.ipynb#area" and places["Shape"] == "" and places["forms.Shape"] == "source/forms.ipynb#Shape"


def test_nbdevs_own_docs_commands_leave_the_menu_and_the_settings_as_they_are(tmp_path, monkeypatch):
    from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml

    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / "nbs").mkdir()
    for name in ("nbdev.yml", "sidebar.yml", "_quarto.yml"):
        shutil.copyfile(ROOT / "nbs" / name, tmp_path / "nbs" / name)
    monkeypatch.chdir(tmp_path)
    refresh_quarto_yml()
    nbdev_sidebar.__wrapped__()
    for name in ("nbdev.yml", "sidebar.yml", "_quarto.yml"):
        assert (tmp_path / "nbs" / name).read_text() == (ROOT / "nbs" / name).read_text(), name


def test_lines_of_code_know_their_indentation():
    made = finish.split_lines('<span class="kw">def</span> f():\n    <span class="st">"a\n    b"</span>\n')
    assert made == (
        '<span class="line"><span class="kw">def</span> f():</span>\n<span class="line" style="--in:4">    <span class="st">"a</span></span>\n'
        '<span class="line" style="--in:4"><span class="st">    b"</span></span>\n<span class="line"></span>'
    )


def test_formulas():
    formula = (r"\frac{N-1}{N}", False)
    assert "<mfrac>" in finish.mathml([formula])[formula] and "frac{" not in finish.mathml([formula])[formula]
    with pytest.raises(DocsError, match="unexpected control sequence"):
        finish.mathml([(r"\nosuchthing{x}", False)])


def test_problems_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a> <a href="b.html#gone">x</a> <a href="c.html">x</a> <a href="https://example.org">fine</a>'
        '<script src="https://example.org/x.js"></script><img src="no.png"><div style="background: url(//example.org/y.png)"></div>'
    )
    (tmp_path / "b.html").write_text('<h2 id="there">x</h2>')
    (tmp_path / "s.css").write_text("@import url(https://example.org/font.css);")
    assert finish.problems(tmp_path) == [
        "a.html: loads https://example.org/x.js",
        "a.html: no.png is not there",
        "a.html: loads //example.org/y.png",
        "a.html: broken link b.html#gone (no such place on that page)",
        "a.html: broken link c.html",
        "s.css: loads https://example.org/font.css",
    ]


def test_web_fonts_are_dropped(tmp_path):
    (tmp_path / "t.css").write_text("@import url(https://example.org/css2?family=A:wght@300;400&display=swap);:root{--x:1}")
    finish.drop_web_fonts(tmp_path)
    assert (tmp_path / "t.css").read_text() == ":root{--x:1}"


# ------------------------------------------------------------------------------------------------------- the built site


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The course's site, built once; its folder."
    pytest.importorskip("smalldocs", reason='smalldocs is not installed: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    began = time.process_time()  # a busy machine takes longer by the clock
    docs.build(folder / "_docs", folder / "_proc", fetch=False)  # tests of the engines: test_frameworks_draw.py
    assert time.process_time() - began < 90
    return folder / "_docs"


def lesson_with_exercise() -> str:
    "A lesson that has an exercise: its page without the suffix."
    for path in project.notebooks(docs.NOTEBOOKS):
        if path.relative_to(docs.NOTEBOOKS).parts[0] != "source" and "#| exercise " in path.read_text(encoding="utf-8"):
            return path.relative_to(docs.NOTEBOOKS).with_suffix("").as_posix()
    pytest.fail("no lesson has an exercise")


def html_of(site: Path, notebook: str) -> Path:
    return site / notebook.replace(".ipynb", ".html")


def test_every_notebook_has_its_page_and_every_name_its_place(site):
    for path in project.notebooks(docs.NOTEBOOKS):
        assert html_of(site, path.relative_to(docs.NOTEBOOKS).as_posix()).is_file()
    found = api.modules(ROOT)
    main = api.all_main_names(found, ROOT)
    assert {"spec", "parallel.processes", "compute.planning"} <= main.keys() <= {module.name for module in found}
    overview = (site / "source" / "index.html").read_text(encoding="utf-8")
    for module in found:
        page = html_of(site, module.page).read_text(encoding="utf-8")
        places = re.findall(r'\sid="([^"]+)"', page)
        assert len(places) == len(set(places)), f"{module.page}: {[place for place in places if places.count(place) > 1]}"
        assert f'href="{html_of(Path(), module.page).as_posix().removeprefix("source/")}"' in overview, module.name
        if not module.is_package:
            for name in module.exports:
                assert name in places, f"{name} is not on the page of {module.name}"


def test_the_page_of_a_package_leads_to_every_name_that_it_offers(site):
    for package in ("parallel", "compute"):
        module = __import__(f"{api.PACKAGE}.{package}", fromlist=["_NAMES"])
        page = (site / "source" / package / "index.html").read_text(encoding="utf-8")
        for home, names in module._NAMES.items():
            for name in names:
                assert re.search(rf'href="{home}\.html(#{name})?"', page), f"{package}: {name}"


def test_links_resolve_and_nothing_is_fetched_from_elsewhere(site):
    assert finish.problems(site) == []


def test_no_directive_and_no_solution_marker_on_any_page(site):
    for path in [site / "index.html", site / f"{lesson_with_exercise()}.html", site / "source" / "exercises.html"]:
        text = re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))
        for mark in ("#| export", "#| mutant", "#| code-fold", "### BEGIN SOLUTION", "%%ipytest", "default_exp"):
            assert mark not in text, f"{mark!r} is on {path.name}"


def test_the_search_finds_names_and_lessons_and_stays_small(site):
    text = (site / "search.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    assert any(entry["href"].endswith("source/spec.html#Layout") and "spread over devices" in entry["text"] for entry in entries)
    assert any(f"{lesson_with_exercise()}.html" in entry["href"] for entry in entries)
    assert len(gzip.compress(text.encode())) < 1_000_000  # what a server sends


def test_a_failing_build_keeps_the_old_site(tmp_path):
    "A broken link is an error that names it, and the site of before stays."
    root = tmp_path / "course"
    (root / "nbs").mkdir(parents=True)
    (root / "_quarto.yml").write_text((ROOT / "_quarto.yml").read_text().replace("href: source/index.md", "href: index.ipynb"))
    (root / "LICENSE").write_text("You may.\n")
    shutil.copyfile(ROOT / "nbs" / "styles.css", root / "nbs" / "styles.css")

    def write(text: str) -> None:
        cell = {"cell_type": "markdown", "metadata": {}, "source": f"# A course\n\n> A promise\n\n{text}"}
        (root / "nbs" / "index.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    write("Half is $\\frac{1}{2}$. [The licence](../LICENSE), [nbs](../nbs)")
    assert docs.build(root / "_docs", root / "_proc", root) == ["files/LICENSE.html", "index.html"]
    assert "You may." in (root / "_docs" / "files" / "LICENSE.html").read_text()
    write("[gone](gone.ipynb)")
    with pytest.raises(DocsError, match=r"index.html: broken link gone.html"):
        docs.build(root / "_docs", root / "_proc", root)
    assert "<mfrac>" in (root / "_docs" / "index.html").read_text()


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def address(site):
    with served(site) as base:
        yield base


@pytest.mark.parametrize("scheme, width", [("light", 1360), ("dark", 390), pytest.param("light", 390, marks=pytest.mark.slow), pytest.param("dark", 1360, marks=pytest.mark.slow)])
def test_pages_load_cleanly(browser, address, scheme, width):
    "The front page, lessons and an API page: no failed request, none to another host, no console error, no raw TeX, nothing too wide."
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    for name in ("index", lesson_with_exercise(), "04_compute/12_explore", "source/exercises"):
        watched = Watched(context, address)
        page = watched.page
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.wait_for_load_state("networkidle")
        assert watched.wrong == [], name
        assert page.locator("h1").first.is_visible()
        page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
        prose = page.evaluate("""() => {
            const copy = document.querySelector('main').cloneNode(true);
            copy.querySelectorAll('pre, code, script, style').forEach(item => item.remove());
            return copy.textContent }""")
        assert not RAW_TEX.search(prose), RAW_TEX.search(prose)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is wider than the window"
        # Code wraps; what it printed may be wider than the column, and then scrolls there
        for selector, rule in ((".sourceCode pre", "item.scrollWidth <= item.clientWidth"), (".cell-output pre", "['auto', 'scroll'].includes(getComputedStyle(item).overflowX)")):
            wrong = page.evaluate(f"[...document.querySelectorAll('{selector}')].filter(item => !({rule})).map(item => item.textContent)")
            assert wrong == [], f"{name}: {selector}"
        # Nor is a picture or a table cut off: it ends in the window, or in something that scrolls and ends there
        cut = page.evaluate("""() => [...document.querySelectorAll('main :is(img, svg, table, pre)')].filter(item => {
            for (let up = item; up && up.tagName !== 'MAIN'; up = up.parentElement)
                if (up.getBoundingClientRect().right <= innerWidth && (up === item || ['auto', 'scroll'].includes(getComputedStyle(up).overflowX))) return false;
            return item.getBoundingClientRect().width > 0 }).map(item => item.outerHTML.slice(0, 120))""")
        assert cut == [], name
        # Text can be read: the page's own colours differ strongly
        light = page.evaluate("""() => {
            const shade = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 765;
            const style = getComputedStyle(document.body);
            return [shade(style.color), shade(style.backgroundColor)] }""")
        assert abs(light[0] - light[1]) > 0.6 and (light[1] < 0.5) == (scheme == "dark"), f"{name}: {light}"
        page.close()
    context.close()


def test_what_a_visitor_and_a_keyboard_meet_first(browser, address):
    "The map is on the first screen, the first stop of the tab key leads past the menu, and copied code is the code."
    context = browser.new_context(viewport={"width": 1360, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    watched = Watched(context, address)
    page = watched.page
    page.goto(f"{address}/index.html", wait_until="load")
    box = page.locator("main img").first.bounding_box()
    assert box["y"] + box["height"] < 900 and box["height"] > 200

    page.keyboard.press("Tab")
    skip = page.locator(".skip-link")
    assert skip.evaluate("item => item === document.activeElement") and skip.bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "quarto-document-content"

    block = page.locator(".code-copy-outer-scaffold", has_text="train(small")
    block.hover()
    block.locator(".code-copy-button").click()
    source = next(cell["source"] for cell in json.loads((ROOT / "nbs" / "index.ipynb").read_text())["cells"] if "train(small" in "".join(cell["source"]))
    assert page.evaluate("navigator.clipboard.readText()").rstrip() == "".join(source).rstrip()
    assert watched.wrong == []
    context.close()


def test_saved_widgets_show_their_picture(browser, address):
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.goto(f"{address}/04_compute/12_explore.html", wait_until="load")
    stills = page.locator(".still")
    saved = (ROOT / "nbs" / "04_compute" / "12_explore.ipynb").read_text(encoding="utf-8").count(cells.WIDGET)
    assert stills.count() == saved > 0
    for still in stills.all():
        size = still.locator("svg, img").first.bounding_box()
        assert size["width"] > 300 and size["height"] > 50
    context.close()


def test_search_dark_mode_and_a_folded_solution(browser, address):
    context = browser.new_context(color_scheme="light", viewport={"width": 1360, "height": 900})
    watched = Watched(context, address)
    page = watched.page
    page.goto(f"{address}/{lesson_with_exercise()}.html", wait_until="load")

    solution = page.locator("details.solution").first
    body = solution.locator("pre").first
    assert not body.is_visible()
    solution.locator("summary").click()
    assert body.is_visible() and "NotImplementedError" not in body.inner_text()

    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".quarto-color-scheme-toggle").first.click()
    page.wait_for_function("before => getComputedStyle(document.body).backgroundColor !== before", arg=before, timeout=5_000)

    page.locator("#quarto-search input").fill("reveal")
    hit = page.locator(".smalldocs-search-results a").first
    hit.wait_for(state="visible", timeout=10_000)
    assert page.locator(".smalldocs-search-results a").count() > 0
    hit.click()
    page.wait_for_load_state("networkidle")
    assert page.locator("main h1").first.is_visible()
    # The choice of the dark scheme is kept on the next page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert watched.wrong == []
    context.close()
