"""Build a wheel of Horovod for the PyTorch that is installed here, once, and say where it lies.

    python peers/build_horovod.py

Horovod is released as source code, and its last release asks for C++14, which today's PyTorch headers refuse. So two lines of its build files
are set to C++17; nothing else is changed. With PyTorch and gloo only: no MPI, no TensorFlow, no GPU. The wheel is kept in the user's cache,
by the versions of everything that it was compiled against. Prints the path of the wheel's folder as the last line.
"""
import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
STANDARD = "set(CMAKE_CXX_STANDARD 14)"
PATCHED = ("CMakeLists.txt", "horovod/torch/CMakeLists.txt")
SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    # The libraries inside it ask for a CMake so old that the new ones have dropped it
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
}


def cache_folder(horovod: str) -> Path:
    "Where the wheel for this Python, this PyTorch and these settings is kept."
    machine = [sysconfig.get_platform(), *platform.libc_ver(), sys.implementation.cache_tag]
    key = [horovod, version("torch"), *machine, STANDARD, *PATCHED, *sorted(SETTINGS.items())]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "fsdl_course" / f"horovod-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"


def need_tools() -> None:
    "Stop with a clear message where something to compile with is missing."
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler or not shutil.which(compiler):
        sys.exit("Horovod is compiled here and needs a C++17 compiler, and there is none; on Debian and Ubuntu: apt install g++ make")
    if not shutil.which("make"):
        sys.exit("Horovod is compiled here and needs make, and there is none; on Debian and Ubuntu: apt install make")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        sys.exit("Horovod is compiled here and needs Python's headers, and there are none; on Debian and Ubuntu: apt install python3-dev")


def raise_standard(source: Path) -> None:
    "Ask for C++17 where Horovod asks for C++14."
    for name in PATCHED:
        text = (source / name).read_text()
        if text.count(STANDARD) != 1:
            sys.exit(f"{name} of this Horovod does not say {STANDARD} once, so this script does not know how to build it")
        (source / name).write_text(text.replace(STANDARD, STANDARD.replace("14", "17")))


def run(command: list[str], log: Path, **options) -> None:
    "Run a command; show the end of what it said only if it fails."
    with open(log, "a") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        said = log.read_text(errors="replace").split("\n")
        errors = [line for line in said if re.search(r"error|fatal", line, re.I)][:20]
        sys.exit("\n".join([*said[-30:], "", "The first errors:", *errors, "", f"Horovod could not be built; all of the output is in {log}"]))


def build(horovod: str, target: Path) -> None:
    "Download the source, set the standard, compile, and put the wheel into `target`."
    need_tools()
    log = Path(tempfile.gettempdir()) / f"build-horovod-{os.getpid()}.log"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | SETTINGS | {"PATH": bin_folder + os.pathsep + os.environ["PATH"], "MAKEFLAGS": f"-j{os.cpu_count() or 1}"}
    with tempfile.TemporaryDirectory(prefix="horovod-") as name:
        folder = Path(name)
        run([*pip, "download", "--no-deps", "--no-binary", "horovod", "--no-build-isolation", "--dest", name, f"horovod=={horovod}"], log, env=environment)
        with tarfile.open(next(folder.glob("horovod-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = folder / f"horovod-{horovod}"
        raise_standard(source)
        wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir", "--verbose", "--wheel-dir", str(folder / "wheel"), str(source)]
        run(wheel, log, env=environment, cwd=folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        # By way of a folder beside it, so that a half-copied wheel is never taken for one
        half = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(folder / "wheel", half)
        half.replace(target)
    log.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    [horovod] = re.findall(r"^horovod==(\S+)$", CONSTRAINTS.read_text(), re.M)
    target = cache_folder(horovod)
    if not list(target.glob("horovod-*.whl")):
        start = time.monotonic()
        build(horovod, target)
        print(f"  compiled in {time.monotonic() - start:.0f} s, kept in {target}", file=sys.stderr)
    print(target)


if __name__ == "__main__":
    main()
