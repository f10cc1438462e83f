"""Windows, as far as it can be had here: without POSIX modules and calls everything imports, estimates and plans, and `launch` says what it needs."""
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fsdl_course

# What Python on Windows lacks and the course might reach for
MODULES = ["fcntl", "resource", "termios", "tty", "pty", "grp", "pwd", "syslog", "readline", "curses"]
OS = [
    "fork", "forkpty", "register_at_fork", "setsid", "getpgrp", "getpgid", "setpgid", "setpgrp", "killpg", "getuid", "geteuid", "getgid", "getegid", "getloadavg",
    "sched_getaffinity", "sched_setaffinity", "sched_yield", "pidfd_open", "posix_spawn", "mkfifo", "set_blocking", "get_blocking", "statvfs", "sysconf", "uname", "nice",
    "wait", "wait3", "wait4", "WNOHANG", "memfd_create", "sendfile", "chown", "fchmod",
]
SIGNALS = ["SIGKILL", "SIGSTOP", "SIGCONT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGHUP", "SIGCHLD", "SIGQUIT", "SIGPIPE", "alarm", "setitimer", "pthread_kill", "sigwait", "siginterrupt"]
# Only the course's own code misses them: libraries have their own ways on each system, and here they take those of Linux
TAKE_AWAY = f"""
import builtins, faulthandler, multiprocessing, multiprocessing.context, os, signal, sys, types

GONE = {{"os": {OS!r}, "signal": {SIGNALS!r}, "faulthandler": ["register", "unregister"]}}


def asked_by_the_course(depth):
    return sys._getframe(depth).f_globals.get("__name__", "").startswith(("fsdl_course", "__main__"))


class Windows(types.ModuleType):
    def __getattribute__(self, name):
        if name in GONE[super().__getattribute__("__name__")] and asked_by_the_course(2):
            raise AttributeError("module has no attribute " + name)
        return super().__getattribute__(name)


def on_windows(name, *more, real=builtins.__import__, **named):
    if name in {MODULES!r} and asked_by_the_course(2):
        raise ModuleNotFoundError("No module named " + name, name=name)
    return real(name, *more, **named)


os.__class__ = signal.__class__ = faulthandler.__class__ = Windows
builtins.__import__ = on_windows
multiprocessing.context._concrete_contexts = {{"spawn": multiprocessing.context.SpawnContext()}}
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""
EVERY = sorted(module.name for module in pkgutil.walk_packages(fsdl_course.__path__, "fsdl_course.") if not module.name.endswith("__main__"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    "Run code in a Python that lacks what Windows lacks; what it printed."
    folder = tmp_path_factory.mktemp("without_posix")
    (folder / "sitecustomize.py").write_text(TAKE_AWAY)
    path = os.pathsep.join([str(folder), str(Path(fsdl_course.__file__).parents[1])])

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_posix_is_really_gone(elsewhere):
    code = "import os, signal, multiprocessing\nprint(hasattr(os, 'fork'), hasattr(signal, 'SIGKILL'), multiprocessing.get_all_start_methods())\nimport fcntl"
    with pytest.raises(AssertionError, match="No module named fcntl"):
        elsewhere(code)
    assert elsewhere(code.removesuffix("\nimport fcntl")).split() == ["False", "False", "['spawn']"]
    with pytest.raises(AssertionError, match="cannot find context for 'forkserver'"):
        elsewhere("import multiprocessing\nmultiprocessing.get_context('forkserver')")


@pytest.mark.slow
def test_every_module_imports(elsewhere):
    code = (
        "import importlib, traceback\n"
        f"for name in {EVERY!r}:\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except Exception as error:\n        traceback.print_exc(limit=-1); print('failed:', name, repr(error))\n"
        "print('all tried')"
    )
    assert len(EVERY) > 40
    assert elsewhere(code) == "all tried\n"


def test_estimate_and_plan_work(elsewhere):
    said = elsewhere(
        "from fsdl_course import MODELS, Cluster, Layout\n"
        "from fsdl_course.compute import estimate, plan\n"
        "guess = estimate(MODELS['gpt2'], Layout(dp=8), Cluster('A100 80GB SXM', 8))\n"
        "print(guess.fits, sum(guess.seconds.values()) > 0)\n"
        "print(bool(plan(MODELS['gpt2'], tokens=1e9)))\n"
    )
    assert said.split() == ["True", "True", "True"]


def test_a_guess_is_kept(elsewhere, tmp_path):
    said = elsewhere(f"import os\nos.chdir({str(tmp_path)!r})\nfrom fsdl_course.exercises import guess, guesses\nguess('how many', 3)\nprint(guesses())")
    assert "how many: your guess is 3" in said


def test_launch_says_what_it_needs_before_anything_starts(elsewhere):
    said = elsewhere(
        "import multiprocessing\n"
        "from fsdl_course.parallel import launch, warm_up\n"
        "for start in (lambda: launch(int, 2), warm_up):\n"
        "    try:\n        start()\n"
        "    except RuntimeError as error:\n        print(error, multiprocessing.active_children())\n"
    )
    assert len(said.splitlines()) == 2
    for line in said.splitlines():
        assert line.startswith("ranks need Linux or macOS; on Windows use WSL2") and line.endswith(" []")
