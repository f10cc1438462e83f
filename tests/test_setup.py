"""Setting up: every pin installs on the oldest Python that is promised, `make` says what is wrong, licences are complete."""
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

pty = pytest.importorskip("pty", reason="Windows has no terminals of this kind, and make is not for it")
ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLDEST = PROJECT["requires-python"].removeprefix(">=")
DATA = ROOT / "fsdl_course" / "data"


def pins(path: str) -> dict[str, str]:
    "What a file of constraints pins: normalised name -> version."
    lines = [line.split("#")[0].strip() for line in (ROOT / path).read_text(encoding="utf-8").split("\n")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


def installed() -> dict[str, importlib.metadata.Distribution]:
    "What this Python has installed: normalised name -> distribution."
    return {canonicalize_name(found.metadata["Name"]): found for found in importlib.metadata.distributions()}


def same_version(pin: str, version: str) -> bool:
    "Whether `version` is the pinned one; a build's label such as +cpu is no part of it."
    return Version(pin) == Version(Version(version).public)


# --- versions

@pytest.mark.parametrize("path", ["constraints.txt", "peers/constraints.txt"])
def test_every_pin_installs_on_the_oldest_python(path):
    # What the pinned version itself says. Pins that are not installed, or in another version, can't be asked without a network
    here = installed()
    known = {name: here[name].metadata["Requires-Python"] for name, pin in pins(path).items() if name in here and same_version(pin, here[name].version)}
    assert len(known) >= 30
    # The first release of that Python counts: Debian 12 has 3.11.2
    late = {name: wanted for name, wanted in known.items() if wanted and not SpecifierSet(wanted).contains(f"{OLDEST}.0")}
    assert not late, f"make constraints resolves for Python {OLDEST}.0; these pins need a later one: {late}"


def test_pins_are_what_is_installed():
    if not list(Path(sys.prefix).glob(".ready-*")):
        pytest.skip("this environment was not made by make; on macOS and Linux, make test makes and uses one")
    here = installed()
    here.pop("pip", None)  # came with the environment, before anything was pinned
    wanted = {name: pin for name, pin in pins("constraints.txt").items() if name in here}
    other = {name: (pin, here[name].version) for name, pin in wanted.items() if not same_version(pin, here[name].version)}
    assert not other, f"pinned and installed: {other}"
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= set(wanted)


def test_the_package_puts_no_upper_bound_on_what_it_needs():
    bounds = {line for line in PROJECT["dependencies"] for one in Requirement(line).specifier if one.operator not in (">=", "!=")}
    assert not bounds
    assert f"Programming Language :: Python :: {OLDEST}" in PROJECT["classifiers"]


def needs(extra: str | None) -> list[Requirement]:
    "What the package, or one of its extras, needs on this system and Python."
    lines = [Requirement(line) for line in (PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra])]
    return [line for line in lines if line.marker is None or line.marker.evaluate()]


@pytest.mark.parametrize("extra", [None, "lab", "dev", "docs", *(pytest.param(extra, marks=pytest.mark.extras) for extra in ("frameworks", "trackers", "clusters"))])
def test_what_is_installed_meets_every_bound(extra):
    if not list(Path(sys.prefix).glob(".ready-*")):
        pytest.skip("this environment was not made by make; on macOS and Linux, make test makes and uses one")
    here = installed()
    missing = [str(line) for line in needs(extra) if canonicalize_name(line.name) not in here]
    outside = {str(line): here[canonicalize_name(line.name)].version for line in needs(extra) if str(line) not in missing and not line.specifier.contains(here[canonicalize_name(line.name)].version, prereleases=True)}
    assert not missing and not outside, f"missing: {missing}; installed, and not allowed: {outside}"


def test_every_extra_has_a_lower_bound_for_everything_and_shuns_the_malicious_releases():
    for extra in (None, *PROJECT["optional-dependencies"]):
        unbounded = [str(line) for line in needs(extra) if not any(one.operator in (">=", "==", "~=") for one in line.specifier)]
        assert not unbounded, f"{extra or 'the package'}: no lower bound in {unbounded}"
        for line in needs(extra):
            if canonicalize_name(line.name) in ("lightning", "pytorch-lightning"):
                assert not any(line.specifier.contains(version) for version in ("2.6.2", "2.6.3")), "these two releases stole credentials (GHSA-w37p-236h-pfx3)"


# --- make

def make(*words: str, **environment: str) -> subprocess.CompletedProcess:
    "Run make in the checkout, as from a plain shell: not as a part of another make, nor on a build machine, and with no Python asked for."
    plain = {key: value for key, value in os.environ.items() if key not in {"CI", "PYTHON", "VENV"} and "MAKE" not in key}
    return subprocess.run(["make", *words], cwd=ROOT, env=plain | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def recipe_lines() -> list[str]:
    "The recipe lines of the Makefile, each with its continuations."
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    return [line.strip().lstrip("@") for line in text.split("\n") if line.startswith("\t")]


def test_recipes_stop_at_the_first_command_that_fails(tmp_path):
    # macOS has make 3.81, which passes over .SHELLFLAGS
    assert not re.search(r"^\.SHELLFLAGS", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    quoted = r"'[^']*'|\"[^\"]*\"|\$\([a-z]+ [^)]*\)"
    several = [line for line in recipe_lines() if re.search(r";|(?<!\|)\|(?!\|)", re.sub(quoted, "", line))]
    assert len(several) >= 5
    assert not [line for line in several if not line.startswith("$(STRICT)")]
    (tmp_path / ".ready-now").touch()
    done = make("bench", f"VENV={tmp_path}", "KEY=now", f"PY={shutil.which('false')}")
    assert done.returncode == 2
    assert done.stdout.count("benchmarks/") == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="on macOS a copied Python finds its way back to the framework that it came from")
def test_another_python_is_not_passed_over(tmp_path):
    base = Path(os.path.realpath(sys._base_executable))
    other = tmp_path / "other" / "bin" / base.name
    other.parent.mkdir(parents=True)
    shutil.copy2(base, other)
    (tmp_path / "other" / "lib").symlink_to(Path(sys.base_prefix) / "lib")
    venv = tmp_path / "venv"
    subprocess.run([base, "-m", "venv", "--without-pip", venv], check=True)
    (venv / ".ready-now").touch()
    words = ("setup", f"VENV={venv}", "KEY=now")
    assert make(*words).returncode == 0
    assert make(*words, f"PYTHON={base}").returncode == 0
    for done in (make(*words, f"PYTHON={other}"), make(*words, PYTHON=str(other))):
        assert done.returncode == 2
        assert f"of {os.path.realpath(sys.base_prefix)}, and PYTHON={other} is Python {sys.version.split()[0]} of {tmp_path / 'other'}" in done.stderr
        assert f"make setup PYTHON={other} VENV=" in done.stderr
    assert (venv / ".ready-now").exists()
    missing = make(*words, "PYTHON=/nowhere/python3")
    assert missing.returncode == 2 and "/nowhere/python3" in missing.stderr


def test_a_missing_python_is_not_replaced_by_another(tmp_path):
    done = make("setup", f"VENV={tmp_path / 'venv'}", "PYTHON=/nowhere/python3")
    assert done.returncode == 2
    assert "The course needs Python 3.11 or newer, and PYTHON=/nowhere/python3 is none" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_environment_whose_python_is_gone_is_not_ready(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(tmp_path / "gone")
    (tmp_path / ".ready-now").touch()
    make("help", f"VENV={tmp_path}", "KEY=now")
    assert not (tmp_path / ".ready-now").exists()


@pytest.mark.slow
def test_without_a_network_make_says_so_and_goes_on_later(tmp_path):
    venv = tmp_path / "venv"
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0"}
    words = ("lab", f"VENV={venv}", f"PYTHON={sys.executable}")
    for attempt in (1, 2):
        done = make(*words, **offline)
        assert done.returncode == 2
        assert done.stderr.rstrip().split("\n")[-1].endswith("Is the network up? make lab goes on where it stopped.  Stop.")
        assert "ERROR: " in done.stderr
        assert ("Making a virtual environment" in done.stdout) == (attempt == 1)
    # A broken environment is completed too: here the first try ended before pip was there
    for part in venv.glob("lib/python*/site-packages/pip*"):
        shutil.rmtree(part)
    done = make(*words, **offline)
    assert "ERROR: " in done.stderr and "No module named pip" not in done.stderr
    # With `true` for pip, this time it "works"
    done = make("setup", f"VENV={venv}", "PIP=true")
    assert done.returncode == 0 and len(list(venv.glob(".ready-*"))) == 1


def test_pip_shows_its_progress_on_a_terminal_only(tmp_path):
    words = ["make", "--dry-run", "setup", f"VENV={tmp_path / 'venv'}"]
    plain = {key: value for key, value in os.environ.items() if key not in {"CI", "PYTHON", "VENV"} and "MAKE" not in key}
    theirs, ours = pty.openpty()
    try:
        for environment, stderr, quiet in ((plain, ours, False), (plain | {"CI": "1"}, ours, True), (plain, subprocess.DEVNULL, True)):
            done = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
            installs = re.findall(r"pip install (.*)", done.stdout)
            assert len(installs) == 2 and all(("--quiet" in line) == quiet for line in installs)
    finally:
        os.close(theirs)
        os.close(ours)


# --- licences

def test_the_notice_names_every_file_of_data():
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[\w-]+\.(?:csv|json|onnx|safetensors|LICENSE)\b", notice))
    assert named == {path.name for path in DATA.iterdir() if path.is_file()}


def test_the_metadata_names_every_licence_and_carries_its_text(tmp_path):
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "fsdl_course", tmp_path / "fsdl_course", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "nbs").mkdir()
    (tmp_path / "out").mkdir()
    build = "import setuptools.build_meta as b; print('made', b.prepare_metadata_for_build_wheel('out'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    info = tmp_path / "out" / re.search(r"^made (.*)$", done.stdout, re.M)[1]
    metadata = importlib.metadata.PathDistribution(info).metadata
    files = metadata.get_all("License-File")
    assert {path.relative_to(ROOT).as_posix() for path in [ROOT / "LICENSE", ROOT / "NOTICE", *DATA.glob("*.LICENSE")]} == set(files)
    texts = " ".join((info / "licenses" / name).read_text(encoding="utf-8") for name in files)
    titles = {"Apache-2.0": "Apache License", "BSD-3-Clause": "BSD 3-Clause License", "MIT": "MIT License", "MPL-2.0": "Mozilla Public License Version 2.0"}
    assert set(metadata["License-Expression"].split(" AND ")) == set(titles)
    assert all(texts.count(title) for title in titles.values())


def texts_that_people_read() -> dict[str, str]:
    "What tells people how to install the course: path -> text without outputs."
    found = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "NOTICE"]}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            found[path.relative_to(ROOT).as_posix()] = "\n".join("".join(cell["source"]) for cell in cells)
    return found


def test_nobody_is_told_to_install_the_course_by_its_name():
    # The name is not on the package index: whoever takes it there would be installed. `pip install .` and the wheel's path are safe
    by_name = re.compile(r"pip3? install (?:-\S+ )*[\\'\"]*fsdl[_-]course\b(?!\S*\.whl).*")
    told = {name: by_name.findall(text) for name, text in texts_that_people_read().items()}
    assert {name: lines for name, lines in told.items() if lines} == {}
