"""A learner's first hour, played by a browser: `fsdl-course lab` hands out the lessons and opens JupyterLab; a lesson runs, an exercise is solved."""
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Watched, chromium, free_port, running

from fsdl_course.handout import exercises
from tools.docs import NOTEBOOKS

pytest.importorskip("jupyterlab", reason='JupyterLab is not installed: pip install -e ".[lab]"')

PREFERRED = "03_parallel/01_processes.ipynb"
# Settings that a learner would click together: which theme, and every cell in the page (the test looks at all)
SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"}}
# What the page knows of its notebook: for each code cell its source, its count, and the text and errors of its outputs
CELLS = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    return panel.content.widgets.filter(cell => cell.model.type === 'code').map(cell => {
        const outputs = cell.model.outputs.toJSON();
        const said = output => [output.text, output.data?.['text/plain'], output.data?.['text/html'], output.evalue].flat().filter(Boolean).join('\\n');
        return {source: cell.model.sharedModel.getSource(), folded: cell.inputHidden, count: cell.model.executionCount, text: outputs.map(said).join('\\n'),
                errors: outputs.filter(output => output.output_type === 'error').map(output => output.ename + ': ' + output.evalue)};
    });
}"""
IDLE = """() => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    return panel?.sessionContext?.session?.kernel?.status === 'idle';
}"""


def lesson() -> Path:
    "The lesson that the test works through: processes, or else the first that has an exercise."
    if (NOTEBOOKS / PREFERRED).exists() and exercises(NOTEBOOKS / PREFERRED):
        return NOTEBOOKS / PREFERRED
    found = next((path for path in sorted(NOTEBOOKS.rglob("*.ipynb")) if exercises(path)), None)
    assert found is not None, "no lesson has an exercise"
    return found


@contextlib.contextmanager
def jupyterlab(folder: Path, settings: Path, log: Path, environment: dict[str, str]) -> Iterator[str]:
    "The address of the JupyterLab that the course's own command starts in `folder`; its output goes to `log`."
    port = free_port()
    command = [sys.executable, "-m", "fsdl_course", "lab", str(folder), "--no-browser", "--expose-app-in-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="]
    with running(command, port, log, environment | {"JUPYTERLAB_SETTINGS_DIR": str(settings)}, "/api") as base:
        yield base


def wait_for_run(page, limit: float) -> list[dict]:
    "Wait until the run that was asked for has ended (every cell ran, or an error stopped it); return the code cells."
    until = time.monotonic() + limit
    quiet = 0
    while time.monotonic() < until:
        cells = page.evaluate(CELLS)
        stopped = any(cell["errors"] for cell in cells)
        done = all(cell["count"] or not cell["source"].strip() for cell in cells)
        # An error ends the run, but the cells after it stay unrun: then an idle kernel is the sign
        quiet = quiet + 1 if page.evaluate(IDLE) and (done or stopped) else 0
        if quiet >= 3:
            return cells
        time.sleep(0.3)
    waiting = [cell["source"][:80] for cell in page.evaluate(CELLS) if not cell["count"]]
    raise AssertionError(f"the lesson had not ended after {limit:.0f} s; the cells that have not run: {waiting[:3]}")


def editor_of(page, text: str):
    "The cell whose code holds `text`."
    cell = page.locator(".jp-CodeCell").filter(has=page.locator(".cm-content", has_text=text)).first
    cell.scroll_into_view_if_needed()
    return cell


def write_settings(folder: Path, theme: str) -> None:
    for name, values in {**SETTINGS, "apputils-extension/themes": {"theme": theme}}.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


@pytest.mark.timeout(240)
@pytest.mark.alone
def test_a_lesson_runs_in_jupyterlab_and_an_exercise_is_solved(tmp_path):
    source = lesson()
    name = source.relative_to(NOTEBOOKS).as_posix()
    exercise = exercises(source)[0]
    # Jupyter's own files (trusted notebooks, kernels' connections) stay in the test's folder
    private = {key: str(tmp_path / "jupyter" / key.lower()) for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | private
    lessons, settings = tmp_path / "lessons", tmp_path / "settings"
    write_settings(settings, "JupyterLab Light")

    with chromium() as browser, jupyterlab(lessons, settings, tmp_path / "jupyterlab.log", environment) as base:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        watched = Watched(context, base)
        page = watched.page
        page.on("dialog", lambda dialog: dialog.accept())

        def opened() -> None:
            # In a workspace of its own, where no other tab is open
            page.goto(f"{base}/lab/workspaces/lesson/tree/{name}", wait_until="domcontentloaded")
            page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-CodeCell", timeout=60_000)
            page.wait_for_function(IDLE, timeout=60_000)

        # The front page comes first, without a question about news
        page.goto(base, wait_until="domcontentloaded")
        page.wait_for_selector(".jp-NotebookPanel .jp-MarkdownCell h1", timeout=60_000)
        assert page.url.endswith("/lab/tree/index.ipynb")
        said = (tmp_path / "jupyterlab.log").read_text()
        assert "written" in said and ("--allow-root" in said) == (os.geteuid() == 0)

        # The lesson opens, imports and checkers are folded, and the pictures that were saved in it show: they are trusted
        opened()
        cells = page.evaluate(CELLS)
        folded = [cell["source"].split("\n")[0] for cell in cells if cell["folded"]]
        assert folded.count("# What the check tries") == len(exercises(source)) and "# Imports" in folded
        assert not any(cell["folded"] for cell in cells if "YOUR CODE HERE" in cell["source"] or cell["source"].startswith("check("))
        assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.every(cell => cell.model.type !== 'code' || cell.model.trusted)")
        page.screenshot(path=tmp_path / "opened-light.png")

        # It runs for real: nothing that is seen below was there before
        page.evaluate("() => { void window.jupyterapp.commands.execute('editmenu:clear-all') }")
        page.wait_for_function("() => document.querySelectorAll('.jp-CodeCell .jp-OutputArea-output').length === 0", timeout=10_000)
        page.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        cells = wait_for_run(page, 120)
        errors = [error for cell in cells for error in cell["errors"]]
        assert all("NotImplementedError" in error for error in errors), errors
        stub = next(cell for cell in cells if "YOUR CODE HERE" in cell["source"] and f"def {exercise.name}(" in cell["source"])
        ran_before = cells[: cells.index(stub)]
        assert all(cell["count"] for cell in ran_before)
        if "launch(" in "".join(cell["source"] for cell in ran_before):
            assert any(re.search(r"\[1\]|rank 1", cell["text"]) for cell in ran_before if "launch(" in cell["source"]), "no rank was heard"
        page.screenshot(path=tmp_path / "run-light.png")

        # The exercise is still open, then it is solved: typed over the stub, run, checked
        check = f'check("{exercise.name}"'
        cell = editor_of(page, "YOUR CODE HERE")
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(exercise.solution)
        page.keyboard.press("Control+Enter")
        page.wait_for_function(IDLE, timeout=30_000)
        verdict = editor_of(page, check)
        verdict.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        output = verdict.locator(".jp-OutputArea-output").filter(has_text="passed")
        output.wait_for(state="visible", timeout=60_000)
        assert exercise.name in output.inner_text()
        assert not any(cell["errors"] for cell in page.evaluate(CELLS) if check in cell["source"])
        page.screenshot(path=tmp_path / "solved-light.png")
        page.evaluate("() => { void window.jupyterapp.commands.execute('docmanager:save') }")
        page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.content.model.dirty", timeout=15_000)
        assert exercise.solution.strip().splitlines()[-1].strip() in json.dumps(json.loads((lessons / name).read_text()), ensure_ascii=False).replace('\\"', '"')
        assert page.locator(".Toastify__toast", has_text=re.compile("news", re.I)).count() == 0
        assert [wrong for wrong in watched.wrong if "another host" in wrong] == []
        context.close()

        # The same page in the dark
        write_settings(settings, "JupyterLab Dark")
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme="dark")
        page = Watched(context, base).page
        opened()
        page.wait_for_selector("body[data-jp-theme-light='false']", state="attached", timeout=20_000)
        editor_of(page, check).locator(".jp-OutputArea-output").filter(has_text="passed").wait_for(state="visible", timeout=20_000)
        page.screenshot(path=tmp_path / "solved-dark.png")
        context.close()
