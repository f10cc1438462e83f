"""The course's Dockerfile: linted, and (where buildah and mmdebstrap are, as root) built without a daemon, run, and a lesson's tests passed inside."""
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tools import container
from tools.files import ROOT
from tools.requirements import requirements

HADOLINT = next((str(path) for path in [ROOT / ".venv-lockers" / "bin" / "hadolint"] if path.exists()), shutil.which("hadolint"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_takes_what_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = requirements(["lab"], ROOT / "pyproject.toml")
    assert asked == [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    with pytest.raises(SystemExit, match="has no extra nonsense; it has lab"):
        requirements(["nonsense"], ROOT / "pyproject.toml")


def test_every_file_that_the_build_copies_is_let_through():
    let = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M) for word in line.split()} - {"."}
    assert copied <= let and all((ROOT / one).exists() for one in let), copied - let
    assert "fsdl_course" in let and "nbs" in let


def test_the_container_does_not_run_as_root_and_keeps_no_configuration():
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 1000$", last, re.M) and "pip.conf" not in last and "ENV PIP" not in last


@pytest.mark.extras
@pytest.mark.skipif(HADOLINT is None, reason="make lockers installs hadolint")
def test_hadolint_has_nothing_to_say():
    found = subprocess.run([HADOLINT, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert found.returncode == 0 and not found.stdout, found.stdout


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(container.ContainerError, match="buildah, mmdebstrap not found.*apt-get install"):
        container.Builder(tmp_path)


def test_sizes_are_read():
    assert container._bytes("2.15 GB") == 2_150_000_000 and container._bytes("7 B") == 7


# Minutes and gigabytes: collected only where `make test-container` asks for it
if os.environ.get("FSDL_CONTAINER"):
    @pytest.mark.slow
    @pytest.mark.timeout(3000)
    def test_the_image_is_built_and_a_lesson_passes_inside(tmp_path):
        builder = container.Builder(Path(os.environ.get("FSDL_CONTAINER_STORE", tmp_path)))
        builder.build("fsdl-course", base=builder.base())
        told = builder.inside("fsdl-course", container.TESTS).splitlines()
        assert told[0] == "1000" and " passed" in told[1] and not {"failed", "error"} & set(told[1].split()) and told[-1] == "lesson ran", told
        assert builder.size("fsdl-course") < 3e9
