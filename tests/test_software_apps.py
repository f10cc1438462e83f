"""A notebook as a small app: the one that the lesson on editors writes, served by Voila and opened in a browser."""
import os
import re
import sys

import nbformat
import pytest
from browser import chromium, free_port, running

from tools.docs import NOTEBOOKS

pytestmark = [pytest.mark.extras, pytest.mark.slow]


@pytest.mark.timeout(240)
def test_an_explorer_is_served_by_voila_and_follows_its_slider(tmp_path):
    pytest.importorskip("voila", reason="voila is not installed: make extras")
    lesson = nbformat.read(NOTEBOOKS / "01_software" / "02_editors.ipynb", 4)
    written = next(cell.source for cell in lesson.cells if cell.cell_type == "code" and 'folder / "which_gpu.ipynb"' in cell.source)
    exec(written, {"nbformat": nbformat, "folder": tmp_path})
    port = free_port()
    command = [sys.executable, "-m", "voila", str(tmp_path / "which_gpu.ipynb"), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    private = {key: str(tmp_path / key.lower()) for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    with running(command, port, tmp_path / "voila.log", os.environ | private) as base, chromium() as browser:
        page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
        page.goto(base, wait_until="domcontentloaded", timeout=90_000)
        best = page.locator("text=/Best value: .*/").first
        best.wait_for(state="visible", timeout=90_000)
        assert page.locator("h1", has_text="Which GPU?").is_visible() and "gpu_picker()" not in page.inner_text("body")  # no code
        before = best.inner_text()
        assert re.search(r"Best value: .+ USD for 1e18 FLOP", before)

        # The first slider asks for more memory than any card has; the kernel answers, and the page shows it
        handle = page.locator("[role=slider]").first
        handle.wait_for(state="visible", timeout=60_000)
        handle.focus()
        for _ in range(12):
            page.keyboard.press("ArrowRight")
        page.locator("text=/No offer has 192 GiB a device.*/").first.wait_for(state="visible", timeout=30_000)
        assert before not in page.inner_text("body")
        page.screenshot(path=tmp_path / "app.png")
