"""Headless Chromium for the tests that need a real browser."""
import contextlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium_path() -> str:
    "The browser of this machine; skips the test, saying what to install, where there is none."
    pytest.importorskip("playwright", reason='playwright is not installed: pip install -e ".[dev]"')
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install Debian's package chromium (apt-get install chromium), or Google Chrome")
    return found


@contextlib.contextmanager
def chromium() -> Iterator:
    "A running headless browser (playwright's `Browser`)."
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    "A page together with everything that went wrong on it, and every request that wanted to leave `base`."

    def __init__(self, context, base: str):
        self.page = context.new_page()
        self.base = base
        self.wrong: list[str] = []
        self.page.on("requestfailed", lambda request: self.wrong.append(f"request failed: {request.url} ({request.failure})"))
        self.page.on("response", lambda response: response.status >= 400 and self.wrong.append(f"{response.status}: {response.url}"))
        self.page.on("request", self._request)
        self.page.on("console", lambda message: message.type == "error" and self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"script error: {error}"))

    def _request(self, request) -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlsplit(self.base).netloc:
            self.wrong.append(f"request to another host: {request.url}")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    "The address at which `folder` is served on this machine while the block runs."
    from tools.docs import serve

    with serve(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, environment: dict[str, str], answers: str | None = None) -> Iterator[str]:
    "The address of a server that `command` starts beside `log`, into which it prints. It is there when the path `answers` is (None: when the port is open)."
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if answers is None:
                    socket.create_connection(("127.0.0.1", port), timeout=2).close()
                else:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{answers}", timeout=2).close()
                break
            assert server.poll() is None and time.monotonic() < until, f"the server did not start:\n{log.read_text()[-3000:]}"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
