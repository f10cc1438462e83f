"""The page "Draw a digit": its JavaScript is held to the package, with a mouse, a finger and the keyboard; with all engines where they can be fetched."""
import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from browser import Watched, chromium, served

from fsdl_course.frameworks.digits import digits
from fsdl_course.frameworks.runtimes import ask_here, distance, drawn, outliers
from tools.site import DocsError, engines

ROOT = Path(__file__).resolve().parent.parent
STROKES = {
    0: [[(0.5, 0.1), (0.25, 0.3), (0.2, 0.5), (0.25, 0.75), (0.5, 0.9), (0.75, 0.75), (0.8, 0.5), (0.75, 0.3), (0.5, 0.1)]],
    3: [[(0.2, 0.15), (0.5, 0.1), (0.75, 0.2), (0.7, 0.4), (0.45, 0.48), (0.75, 0.6), (0.75, 0.8), (0.5, 0.92), (0.2, 0.85)]],
    7: [[(0.2, 0.15), (0.8, 0.15), (0.45, 0.9)]],
}


def page_alone(folder: Path, cache: Path | None) -> list[str]:
    "Write the page into `folder`, without the site around it; the lines about what it goes without."
    text = (ROOT / "nbs" / f"{engines.PAGE}.md").read_text(encoding="utf-8")
    body = re.search(r"```\{=html\}\n(.*?)```", text, re.S)[1]
    shutil.copytree(ROOT / "nbs" / engines.PAGE, folder / "draw")
    shutil.copyfile(ROOT / "nbs" / "styles.css", folder / "styles.css")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><link rel="stylesheet" href="styles.css">'
    (folder / "draw.html").write_text(f"<!doctype html><html lang='en'><head>{head}</head><body><main>{body}</main></body></html>", encoding="utf-8")
    return engines.write_files(folder / "draw", cache)


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    "The address of the page without any engine from npm."
    folder = tmp_path_factory.mktemp("plain")
    assert len(page_alone(folder, None)) == 2
    with served(folder) as base:
        yield base


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The address of the page with all engines, which npm fetches the first time."
    folder = tmp_path_factory.mktemp("whole")
    assert page_alone(folder, ROOT / ".make" / "engines") == []
    with served(folder) as base:
        yield base


def opened(browser, base: str, **context) -> Watched:
    watched = Watched(browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **context}), base)
    watched.page.goto(f"{base}/draw.html", wait_until="load")
    return watched


def draw(page, strokes: list) -> None:
    "Draw with the mouse, after clearing."
    page.locator("#draw-clear").click()
    pad = page.locator("#draw-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for stroke in strokes:
        for n, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=1 if n == 0 else 4)
            if n == 0:
                page.mouse.down()
        page.mouse.up()


def answers(page, count: int) -> dict[str, np.ndarray]:
    "The logits of each engine, once `count` of them have answered what is drawn now; the page's own text must fit them."
    page.wait_for_function(
        """count => { const last = window.drawDigit.last;
        return last && last.loaded && Object.keys(last.answers).length === count && JSON.stringify(last.pixels) === JSON.stringify(window.drawDigit.state.pixels) }""",
        arg=count, timeout=90_000,
    )
    last = page.evaluate("window.drawDigit.last")
    found = {key: np.array([logits]) for key, logits in last["answers"].items()}
    for key, logits in found.items():
        assert page.locator(f"[data-engine={key}] b").inner_text() == str(logits[0].argmax())
    assert last["far"] == pytest.approx(max(distance(a, b) for a in found.values() for b in found.values()))
    return found


def seen(page) -> np.ndarray:
    "The picture that the engines are given, from 0 to 1."
    return np.array(page.evaluate("window.drawDigit.state.pixels"), np.float32) / 16


# ---- without engines from npm: quick, and in `make test` ----


def test_plain_javascript_reads_three_drawings_as_the_package_does(browser, plain):
    watched = opened(browser, plain)
    for digit, strokes in STROKES.items():
        draw(watched.page, strokes)
        found = answers(watched.page, 1)["plain"]
        assert np.array_equal(seen(watched.page), drawn(watched.page.evaluate("window.drawDigit.state.strokes")))
        assert found.argmax() == digit and distance(found, ask_here("numpy", seen(watched.page), repeats=1).logits) < 1e-4
    assert "no second engine" in watched.page.locator("#draw-verdict").inner_text()
    for key in ("tfjs", "ort"):
        assert "not in this build of the site" in watched.page.locator(f"[data-engine={key}]").inner_text()
    assert watched.wrong == []


def test_the_javascript_is_held_to_the_package(browser, plain):
    watched = opened(browser, plain)
    page, chance = watched.page, np.random.default_rng(0)
    for _ in range(15):
        strokes = [chance.uniform(0, 1, (chance.integers(1, 6), 2)).tolist() for _ in range(chance.integers(1, 4))]
        pixels = page.evaluate("strokes => window.drawDigit.picture(strokes)", strokes)
        assert np.array_equal(np.array(pixels) / 16, drawn(strokes))
    assert page.evaluate("window.drawDigit.picture([])") == [0] * 64
    import math

    points = np.linspace(-7, 7, 281).tolist()
    assert np.abs(np.array(page.evaluate("points => points.map(window.drawDigit.erf)", points)) - [math.erf(point) for point in points]).max() < 1e-14
    for values in ([1, 1, 2], [1, 2], [1, 1, 2, 2], [1, 1, None], [3, 1, 1, 1, 2], [1, 1, 1]):
        logits = {str(n): np.full((1, 3), np.nan if value is None else value) for n, value in enumerate(values)}
        found = page.evaluate("values => { const { decided, liars } = window.drawDigit.judge(values.map((v, n) => ({ n, logits: [v, v, v].map((one) => one ?? NaN) }))); return [decided, liars.map((one) => String(one.n))] }", values)
        verdict = outliers(logits)
        assert found == [verdict.decided, [*verdict.outliers]], values


def test_every_sample_is_read_and_none_was_trained_on(browser, plain):
    watched = opened(browser, plain)
    train = {row.tobytes() for row in digits("float32").x}
    for digit in range(10):
        watched.page.locator("#draw-samples button").nth(digit).click()
        assert answers(watched.page, 1)["plain"].argmax() == digit and seen(watched.page).tobytes() not in train
    assert watched.wrong == []


def test_by_keyboard_alone(browser, plain):
    watched = opened(browser, plain)
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "draw-pad"
    for keys in (["ArrowUp"] * 6, ["ArrowLeft"] * 4, [" "], ["ArrowRight"] * 8, ["ArrowDown", "ArrowDown", "ArrowLeft"] * 6, [" "]):
        for key in keys:
            page.keyboard.press(key)
    assert answers(page, 1)["plain"].argmax() == 7 and "Pen up" in page.locator("#draw-pen").inner_text()
    page.keyboard.press("Backspace")
    page.wait_for_function("window.drawDigit.last.pixels.every((value) => value === 0)")
    assert page.locator("#draw-verdict").inner_text().startswith("Draw a digit")
    assert watched.wrong == []


def test_on_a_phone_a_finger_draws_and_nothing_is_too_wide(browser, plain):
    watched = opened(browser, plain, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark")
    page = watched.page
    box = page.locator("#draw-pad").bounding_box()
    session = page.context.new_cdp_session(page)
    for n, (x, y) in enumerate(STROKES[7][0]):
        point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove" if n else "touchStart", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert answers(page, 1)["plain"].argmax() == 7
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(one.bounding_box()["height"] >= 40 for one in page.locator("#draw button").all())
    assert watched.wrong == []


def test_bad_weights_are_refused(browser, plain):
    page = opened(browser, plain).page
    for data in ([255] * 16, [2, 0, 0, 0, 0, 0, 0, 0, 123], [2, 0, 0, 0, 0, 0, 0, 0, 1, 2]):
        with pytest.raises(Exception, match="Error"):
            page.evaluate("data => window.drawDigit.parseSafetensors(Uint8Array.from(data))", data)


def test_what_npm_gives_must_be_the_known_archive(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as tar:
        tar.add(ROOT / "LICENSE", "package/dist/tf.es2017.min.js")
    with pytest.raises(DocsError, match="another hash than tools/site/engines.json: it is not used"):
        engines.unpack(tmp_path / "other.tgz", engines.ENGINES[0], tmp_path / "files")
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    notes = engines.write_files(tmp_path / "draw", tmp_path / "cache")
    assert len(notes) == 2 and all("needs npm" in note and "\n" not in note for note in notes)
    monkeypatch.setattr(engines.shutil, "which", lambda name: "/bin/false")
    assert "is the network up?" in engines.write_files(tmp_path / "draw", tmp_path / "cache")[0]
    data = json.loads((tmp_path / "draw" / "data.js").read_text().removeprefix("window.DIGITS = ").rstrip(";\n"))
    assert "megabytes" not in data["engines"]["tfjs"] and len(data["samples"]) == 10


# ---- with all engines ----


@pytest.mark.extras
def test_three_engines_read_three_drawings_and_agree(browser, whole):
    watched = opened(browser, whole)
    for digit, strokes in STROKES.items():
        draw(watched.page, strokes)
        found = answers(watched.page, 3)
        assert {key: int(logits.argmax()) for key, logits in found.items()} == dict.fromkeys(("plain", "tfjs", "ort"), digit)
        assert outliers(found).outliers == () and outliers(found).distances.max() < 1e-4
        assert distance(found["ort"], ask_here("numpy", seen(watched.page), repeats=1).logits) < 1e-4
        assert watched.page.locator("#draw-verdict").inner_text().startswith(f"All 3 say {digit}. Largest difference")
    assert watched.wrong == [], "something left the page, or failed"


@pytest.mark.extras
def test_a_planted_fault_is_named_on_the_page(browser, whole):
    watched = opened(browser, whole)
    page = watched.page
    draw(page, STROKES[3])
    answers(page, 3)
    for fault, key, name in (("tanh gelu", "plain", "Plain JavaScript"), ("tanh gelu", "tfjs", "TensorFlow.js"), ("swapped axes", "ort", "ONNX Runtime Web"), ("softmax twice", "tfjs", "TensorFlow.js")):
        page.select_option("#draw-fault", fault)
        page.select_option("#draw-liar", key)
        page.wait_for_function("name => document.getElementById('draw-verdict').textContent.endsWith(`Outlier: ${name}.`)", arg=name)
        assert page.locator(".draw-engine.liar").count() == 1
    page.select_option("#draw-fault", "")
    page.wait_for_function("document.getElementById('draw-verdict').className === 'agree'")
    assert watched.wrong == []
