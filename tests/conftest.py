"""What all tests share: tests that measure run alone, and on a build machine a test that could have run must not be skipped."""
import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows: tests run one after the other there
    fcntl = None

LOCKS = Path(__file__).resolve().parent.parent / ".make"
# Hardware and systems that a build machine can't be given by installing something
HARDWARE = re.compile(r"\b(GPUs?|CUDA|NVIDIA|TPUs?|macOS|Windows|cores?)\b", re.I)


BEGAN = time.monotonic()
LEFT_OUT = "left out: the minutes are over"


def pytest_configure():
    os.environ.setdefault("WANDB_MODE", "offline")


def pytest_addoption(parser):
    parser.addoption("--minutes", type=float, help="begin with another file for each commit, and leave out what is not begun after so many minutes")


def pytest_collection_modifyitems(config, items):
    "Without a key nothing is sent to W&B. With --minutes the files are turned round to begin elsewhere for each commit; all workers get the same order."
    if not os.environ.get("WANDB_API_KEY"):
        items[:] = [item for item in items if item.get_closest_marker("online") is None]
    if config.getoption("minutes") and items:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=LOCKS.parent, capture_output=True, text=True).stdout.strip()
        files = list(dict.fromkeys(item.path for item in items))
        first = int(commit or "0", 16) % len(files)
        places = {path: (number - first) % len(files) for number, path in enumerate(files)}
        items.sort(key=lambda item: places[item.path])


def pytest_runtest_setup(item):
    minutes = item.config.getoption("minutes")
    if minutes and time.monotonic() - BEGAN > 60 * minutes:
        pytest.skip(LEFT_OUT)


@contextlib.contextmanager
def locked(name: str, exclusive: bool):
    "Hold a lock file, together with others or alone."
    LOCKS.mkdir(exist_ok=True)
    with open(LOCKS / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    "Among parallel workers, a test that is marked `alone` waits until no other runs, and the others wait for it."
    if fcntl is None or "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with contextlib.ExitStack() as room:
        # Who waits to be alone holds the door meanwhile, so that nobody slips in before
        with locked("tests.door", exclusive=True):
            room.enter_context(locked("tests.room", exclusive=item.get_closest_marker("alone") is not None))
        yield


def needless_skips(config) -> list[str]:
    "The tests that were skipped though the machine has, or could be given, what they need."
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    found = []
    for report in reporter.stats.get("skipped", []) if reporter else []:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not HARDWARE.search(reason) and LEFT_OUT not in reason:
            found.append(f"{report.nodeid}: {reason}")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    "CI=1 in the environment: a needless skip is a failure."
    if os.environ.get("CI") and session.exitstatus == 0 and needless_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    skips = needless_skips(config) if os.environ.get("CI") else []
    if skips:
        terminalreporter.section("skipped, though this build machine could have run it", red=True)
        for line in skips:
            terminalreporter.line(line)
