"""The site: what the builder does to a cell, and the built pages in a real browser."""
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from browser import Watched, chromium, served

from tools import docs

ROOT = Path(__file__).resolve().parent.parent
RAW_TEX = re.compile(r"\\(?:frac|text|left|right|begin|end|alpha|beta|sum|cdot|times|le|ge|mathrm|[()\[\]])|\$\$|(?<!\w)\$[^$\d\s][^$\n]*\$")


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": list(outputs), "execution_count": 1}


def stream(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": text}


def sources(cells: list[dict]) -> str:
    return "\n".join(cell["source"] for cell in docs.stage_cells(cells, "test.ipynb"))


EXERCISE = [
    code('#| check double\n@checker("double")\ndef check_double(answer):\n    expect(answer(2) == 4, "2 gives 4")'),
    code('#| exercise double\ndef double(x):\n    "Twice `x`."\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION'),
    code('check("double", double)', stream("double: passed")),
    code("#| mutant double: adds\n#| says: gives\ndef adds(x):\n    return x + 3"),
]


# ------------------------------------------------------------------------------------------------------ without a browser


def test_an_exercise_shows_its_stub_and_folds_its_solution():
    staged = docs.stage_cells(EXERCISE, "test.ipynb")
    stub, call, opening, solution, closing = (cell["source"] for cell in staged[1:])
    assert "NotImplementedError" in stub and "return 2 * x" not in stub
    assert call == 'check("double", double)' and not staged[2]["outputs"]
    assert opening.startswith('<details class="solution">') and closing.strip() == "</details>"
    assert "return 2 * x" in solution and "SOLUTION" not in solution
    assert staged[4]["outputs"][0]["text"] == "double: passed"


def test_checks_and_tests_are_folded_and_mutants_left_out():
    check = docs.stage_cells(EXERCISE, "test.ipynb")[0]["source"]
    assert check.startswith('#| code-fold: true\n#| code-summary: "How answers are checked"\n@checker')
    assert "adds" not in sources(EXERCISE)
    test = docs.stage_cells([code("%%ipytest -q\n\ndef test_a():\n    assert True", stream(".. [100%]\n2 passed in 0.01s"))], "test.ipynb")[0]
    assert test["source"] == '#| code-fold: true\n#| code-summary: "Tests (2 passed)"\ndef test_a():\n    assert True'
    assert not test["outputs"]


def test_the_courses_own_directives_do_not_reach_the_page():
    cells = [code("#| default_exp spec"), code("#| hide\nimport ipytest"), code("#| export ledger\nx = 1"), code("#| setup\ny = 2"), code("#| fig-cap: A ring\nz = 3")]
    assert sources(cells) == "x = 1\ny = 2\n#| fig-cap: A ring\nz = 3"


def test_long_cells_of_the_package_are_folded():
    long = "class Ring:\n" + "\n".join(f"    x{n} = {n}" for n in range(40))
    assert sources([code(f"#| export\n{long}")]) == f'#| code-fold: true\n#| code-summary: "Ring (41 lines)"\n{long}'
    assert sources([code(long)]) == long


def test_an_exercise_without_a_check_call_is_an_error():
    with pytest.raises(docs.DocsError, match=r"test.ipynb: exercise 'double' has no cell `check"):
        docs.stage_cells(EXERCISE[:2], "test.ipynb")


def test_terminal_colours_become_html():
    assert docs.ansi_html("\x1b[31mred\x1b[0m <a> \x1b[1;32mgo\x1b[39m bold\x1b[22m") == (
        '<span class="ansi-red">red</span> &lt;a&gt; <span class="ansi-green ansi-bold">go</span><span class="ansi-bold"> bold</span>'
    )
    assert docs.ansi_html("\x1b[38;5;12mx\x1b[2K") == "x"
    error = docs.page_output({"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: v"]})
    assert error["data"]["text/html"] == '<pre class="ansi ansi-error"><code><span class="ansi-red">E</span>: v</code></pre>'


def test_names_are_linked_in_prose_only():
    text = "# `half`\n\nUse `half` and `half`.\n\n```python\n`half`\n```\n\n[`half`](x) and $`half`$ `halves`"
    linked = docs.link_names(text, {"half": "api/spec.md#half"}, "../")
    assert linked == text.replace("Use `half`", "Use [`half`](../api/spec.md#half)")


def test_formulas():
    formula = (r"\frac{N-1}{N}", False)
    assert "<mfrac>" in docs.mathml([formula])[formula] and "frac{" not in docs.mathml([formula])[formula]
    with pytest.raises(docs.DocsError, match="unexpected control sequence"):
        docs.mathml([(r"\nosuchthing{x}", False)])


def test_problems_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a> <a href="b.html#gone">x</a> <a href="c.html">x</a> <a href="https://example.org">fine</a>'
        '<script src="https://example.org/x.js"></script><img src="no.png"><div style="background: url(//example.org/y.png)"></div>'
    )
    (tmp_path / "b.html").write_text('<h2 id="there">x</h2>')
    (tmp_path / "s.css").write_text("@import url(https://example.org/font.css);")
    assert docs.problems(tmp_path) == [
        "a.html: loads https://example.org/x.js",
        "a.html: no.png is not there",
        "a.html: loads //example.org/y.png",
        "a.html: broken link b.html#gone (no such place on that page)",
        "a.html: broken link c.html",
        "s.css: loads https://example.org/font.css",
    ]


def test_web_fonts_are_dropped(tmp_path):
    (tmp_path / "t.css").write_text("@import url(https://example.org/css2?family=A:wght@300;400&display=swap);:root{--x:1}")
    docs.drop_web_fonts(tmp_path)
    assert (tmp_path / "t.css").read_text() == ":root{--x:1}"


# ------------------------------------------------------------------------------------------------------- the built site


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The course's site, built once; its folder."
    pytest.importorskip("smalldocs", reason='smalldocs is not installed: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    began = time.perf_counter()
    docs.build(folder / "_docs", folder / "_proc")
    assert time.perf_counter() - began < 120
    return folder / "_docs"


def lesson_with_exercise() -> str:
    "A lesson that has an exercise: its page without the suffix."
    for path in docs.notebooks():
        if path.relative_to(docs.NOTEBOOKS).parts[0] != "source" and "#| exercise " in path.read_text(encoding="utf-8"):
            return path.relative_to(docs.NOTEBOOKS).with_suffix("").as_posix()
    pytest.fail("no lesson has an exercise")


def test_every_notebook_and_module_has_its_page(site):
    for path in docs.notebooks():
        assert (site / path.relative_to(docs.NOTEBOOKS)).with_suffix(".html").is_file()
    for module in docs.modules(ROOT / docs.PACKAGE):
        page = (site / "api" / module.replace(".", "/")).with_suffix(".html").read_text(encoding="utf-8")
        for name in docs._exports(docs._module_file(ROOT / docs.PACKAGE, module)):
            assert f'id="{name}"' in page, f"{name} is not on the page of {module}"


def test_links_resolve_and_nothing_is_fetched_from_elsewhere(site):
    assert docs.problems(site) == []


def test_source_links_lead_to_the_definition(site):
    page = (site / "api" / "exercises.html").read_text(encoding="utf-8")
    lines = (ROOT / docs.PACKAGE / "exercises.py").read_text(encoding="utf-8").split("\n")
    place = re.search(r'id="reveal".*?source/fsdl_course/exercises\.html#L-(\d+)', page, re.S)
    assert lines[int(place[1]) - 1].startswith("def reveal(")


def test_no_directive_and_no_solution_marker_on_any_page(site):
    for path in [site / "index.html", *(site / f"{lesson_with_exercise()}.html",)]:
        text = re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))
        for mark in ("#| ", "### BEGIN SOLUTION", "%%ipytest", "default_exp"):
            assert mark not in text, f"{mark!r} is on {path.name}"


def test_a_failing_build_keeps_the_old_site(tmp_path):
    "A broken link is an error that names it, and the site of before stays."
    root = tmp_path / "course"
    (root / "nbs").mkdir(parents=True)
    (root / "tools").mkdir()
    (root / docs.PACKAGE).mkdir()
    shutil.copytree(ROOT / "tools" / "site", root / "tools" / "site")
    shutil.copyfile(ROOT / "_quarto.yml", root / "_quarto.yml")
    for name in ("styles.css", "nbdev.yml"):
        shutil.copyfile(ROOT / "nbs" / name, root / "nbs" / name)

    def write(text: str) -> None:
        cell = {"cell_type": "markdown", "metadata": {}, "source": f"# A course\n\n> A promise\n\n{text}"}
        (root / "nbs" / "index.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    write("Half is $\\frac{1}{2}$.")
    assert docs.build(root / "_docs", root / "_proc", root) == ["api/index.html", "index.html"]
    write("[gone](gone.ipynb)")
    with pytest.raises(docs.DocsError, match=r"index.html: broken link gone.html"):
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


@pytest.mark.parametrize("width", [1360, 390], ids=["desktop", "mobile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_three_pages_load_cleanly(browser, address, scheme, width):
    "The front page, a lesson and an API page: no failed request, none to another host, no console error, no raw TeX, nothing too wide."
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    for name in ("index", lesson_with_exercise(), "api/exercises"):
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
        # Text can be read: the page's own colours differ strongly
        light = page.evaluate("""() => {
            const shade = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 765;
            const style = getComputedStyle(document.body);
            return [shade(style.color), shade(style.backgroundColor)] }""")
        assert abs(light[0] - light[1]) > 0.6 and (light[1] < 0.5) == (scheme == "dark"), f"{name}: {light}"
        page.close()
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
