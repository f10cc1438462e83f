"""The lessons as an nbgrader course, with the real nbgrader: the students' version has no solution, a filled copy gets all points and an empty one none.

nbgrader brings its own menus into the JupyterLab of the environment that it is installed in, where learners would meet them. So it gets an environment
of its own, made once below .make/, which finds everything else in the one that runs the tests.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from fsdl_course.grading import SCHEMA, assignment_name, write_course
from fsdl_course.handout import exercises, read_notebook, solution
from tools.files import ROOT, alone

pytestmark = pytest.mark.slow  # a minute or more: the environment is made, and a lesson graded three times

LESSON = ROOT / "nbs" / "00_vocabulary" / "01_model.ipynb"


def run(command: list, folder: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def python() -> Path:
    "A Python with nbgrader, and all that the tests' own has."
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["grading"]
    constraints = ROOT / "constraints.txt"
    key = hashlib.sha256(f"{asked} {constraints.read_text()} {sys.executable} {sys.version}".encode()).hexdigest()[:12]
    with alone():
        home = ROOT / ".make" / f"nbgrader-{key}"
        there = home / "bin" / "python"
        if not (home / ".ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)
            site = next((home / "lib").glob("python*")) / "site-packages"
            (site / "tests_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
            pip = [there, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", constraints]
            done = run([*pip, *asked], home)
            if not done.returncode and not (home / "bin" / "alembic").exists():  # found in the other environment, whose command doesn't know nbgrader
                done = run([*pip, "--no-deps", "--ignore-installed", "alembic"], home)
            if done.returncode:
                pytest.skip(f"nbgrader can't be installed: {done.stderr.strip().splitlines()[-1]}")
            (home / ".ready").touch()
    return there


EXERCISES = {exercise.name: exercise for exercise in exercises(LESSON)}


def solving(cell: str, source: str) -> str:
    "What a student who solves everything has in a cell that nbgrader knows as `cell`."
    return solution(EXERCISES[cell].source) if cell in EXERCISES else source


def cheating(cell: str, source: str) -> str:
    "What a student has who answers wrongly, and lets every checker accept that."
    name = cell.removesuffix("-checker")
    if name != cell:
        return f"@checker('{name}')\ndef accept(answer):\n    return 'all is well'"
    if cell not in EXERCISES:
        return source
    wrong = EXERCISES[cell].mutants[0]
    return f"{wrong.source}\n{cell} = {wrong.definition}"


STUDENTS = {"solving": solving, "idle": lambda cell, source: source, "cheating": cheating}


@pytest.fixture(scope="session")
def graded(python, tmp_path_factory) -> dict:
    "A course that nbgrader has released, and graded for two students: the points of each, and where everything lies."
    home = tmp_path_factory.mktemp("nbgrader")
    jupyter = {name: str(home / "jupyter" / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "FSDL_GUESSES")}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | jupyter
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}  # nbgrader calls alembic by its name
    shelf, course = home / "nbs", home / "course"
    (shelf / "00_vocabulary").mkdir(parents=True)
    shutil.copy(LESSON, shelf / "00_vocabulary")
    write_course(course, source=shelf)
    name = assignment_name(LESSON.relative_to(ROOT / "nbs"))

    def nbgrader(*words: str) -> str:
        done = run([python, "-m", "nbgrader", *words], course, environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    nbgrader("generate_assignment", name)
    release = course / "release" / name / LESSON.name
    for student in STUDENTS:
        notebook = read_notebook(release)
        for cell in notebook["cells"]:
            told = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
            cell["source"] = STUDENTS[student](told, cell["source"])
        handed_in = course / "submitted" / student / name / LESSON.name
        handed_in.parent.mkdir(parents=True)
        handed_in.write_text(json.dumps(notebook))
    said = nbgrader("autograde", name)
    points = run([python, "-c", POINTS, name, *STUDENTS], course, environment)
    assert points.returncode == 0, points.stderr
    return {"course": course, "release": release, "said": said, "points": json.loads(points.stdout)}


# What nbgrader's own database says: {student: [points, of so many]}
POINTS = """
import json, sys
from nbgrader.api import Gradebook
name, *students = sys.argv[1:]
with Gradebook("sqlite:///gradebook.db") as book:
    found = [book.find_submission(name, student) for student in students]
    print(json.dumps({student: [one.score, one.max_score] for student, one in zip(students, found)}))
"""


@pytest.mark.timeout(600)
def test_solutions_get_all_points_and_stubs_none_nor_does_who_rewrites_the_checkers(graded):
    most = sum(exercise.stars for exercise in EXERCISES.values())
    assert most >= 3 and graded["points"] == {"solving": [most, most], "idle": [0, most], "cheating": [0, most]}, graded["said"]


@pytest.mark.timeout(600)
def test_the_students_version_has_no_solution_and_no_planted_answer(graded):
    released = graded["release"].read_text()
    cells = {cell["id"]: cell["source"] for cell in read_notebook(graded["release"])["cells"]}
    for exercise in EXERCISES.values():
        part = re.search(r"### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION", exercise.source, re.S)[1]
        assert len(part) > 20 and not [name for name, source in cells.items() if part in source]
        assert "# YOUR CODE HERE\n    raise NotImplementedError()" in cells[exercise.cell]
        for answer in (*exercise.mutants, *exercise.copies):
            assert answer.cell not in cells and json.dumps(answer.source)[1:-1] not in released
    assert "SOLUTION" not in released and "<summary>Solution" not in released and "mutant" not in released


@pytest.mark.timeout(600)
def test_the_metadata_is_of_the_version_that_nbgrader_writes(python, tmp_path):
    done = run([python, "-c", "from nbgrader.nbgraderformat import MetadataValidator; print(MetadataValidator.schema_version)"], tmp_path)
    assert done.stdout.strip() == str(SCHEMA), done.stderr
