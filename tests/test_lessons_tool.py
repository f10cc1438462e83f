"""The tool that runs the learners' copies: it notices an error, a lost output, a dead link, and what a copy should not speak of."""
import json
from pathlib import Path

import pytest

from fsdl_course.handout import hand_out
from tools import lessons
from tools.files import ROOT
from tools.run import kernel_of


def md(source: str) -> dict:
    return {"cell_type": "markdown", "id": f"m{abs(hash(source)) % 10**7:07}", "metadata": {}, "source": source}


def py(source: str, text: str = "") -> dict:
    outputs = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
    return {**md(source), "cell_type": "code", "id": f"c{abs(hash(source)) % 10**7:07}", "outputs": outputs, "execution_count": None}


def shelf_and_desk(folder: Path, *cells: dict) -> tuple[Path, Path]:
    "A lesson of these cells, and its copy."
    shelf = folder / "nbs"
    shelf.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    (shelf / "01_a.ipynb").write_text(json.dumps({"cells": [md("# A\n\n> P"), *cells], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    hand_out(folder / "desk", source=shelf)
    return shelf / "01_a.ipynb", folder / "desk" / "01_a.ipynb"


EXERCISE = [
    py("from fsdl_course.exercises import check, checker, expect, guess"),
    py('#| check double\n@checker("double")\ndef check_double(answer):\n    expect(answer(2) == 4, "2 gives 4")'),
    py("#| exercise double\ndef double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"),
    py('check("double", double)', "passed"),
    py('guess("times", 3)', "3"),
]


def test_a_copy_that_is_right_passes(tmp_path):
    original, copy = shelf_and_desk(tmp_path, py("print(1)", "1\n"), *EXERCISE)
    assert lessons.try_copy(copy, original) == []


def test_an_error_is_told_with_its_cell(tmp_path):
    original, copy = shelf_and_desk(tmp_path, py("print(1 / 0)", "1\n"))
    (wrong,) = lessons.try_copy(copy, original)
    assert "ZeroDivisionError" in wrong and "print(1 / 0)" in wrong


def test_an_output_that_does_not_come_back_is_lost(tmp_path):
    original, copy = shelf_and_desk(tmp_path, py("if False: print(1)", "1\n"))
    (wrong,) = lessons.try_copy(copy, original)
    assert wrong.startswith("when run, cell c") and "lost its output (stdout): if False: print(1)" in wrong


def test_an_output_that_was_never_handed_out_is_lost(tmp_path):
    original, copy = shelf_and_desk(tmp_path, py("print(1)", "1\n"))
    bare = json.loads(copy.read_text())
    bare["cells"][1]["outputs"] = []
    copy.write_text(json.dumps(bare))
    assert len(lessons.try_copy(copy, original)) == 1


@pytest.mark.parametrize("prose, what", [("see [b](02_b.ipynb)", "links to 02_b.ipynb"), ("as the test below shows", "speaks of something"), ("see [w](https://example.org#x) and `[c](d)`", None)])
def test_prose_refers_to_what_is_there(tmp_path, prose, what):
    copy = {"cells": [{"cell_type": "markdown", "id": "m", "source": prose}]}
    assert [what in line for line in lessons.dangling(copy, tmp_path)] == ([True] if what else [])


def test_arguments_choose_lessons():
    every = lessons.chosen([])
    assert every == lessons.chosen(["all"]) and ROOT / "nbs" / "index.ipynb" in every
    assert [path.name for path in lessons.chosen(["nbs/03_parallel/05_zero.ipynb"])] == ["05_zero.ipynb"]
    assert {path.parent.name for path in lessons.chosen([str(ROOT / "nbs" / "03_parallel")])} == {"03_parallel"}
    with pytest.raises(SystemExit, match="no lesson is nbs/nowhere"):
        lessons.chosen(["nbs/nowhere"])


def test_a_part_fits_its_minutes_and_moves_on(monkeypatch):
    every = lessons.chosen([])
    seen = set()
    for commits in range(len(every)):
        monkeypatch.setattr(lessons.subprocess, "run", lambda *_, **__: type("Done", (), {"stdout": str(commits), "returncode": 0}))
        part = lessons.a_part(every, 5)
        assert part[0] == every[commits] and len(set(part)) == len(part) < len(every)
        seen |= set(part)
    assert seen == set(every)
    assert lessons.a_part(every, 1000)[0] == every[-1] and len(lessons.a_part(every, 1000)) == len(every)


def test_a_lesson_runs_in_its_own_kernel_and_a_missing_one_is_named(tmp_path, monkeypatch):
    assert kernel_of({"kernelspec": {"name": "fsdl-extras"}}) == "fsdl-extras"
    assert kernel_of({"kernelspec": {"name": "someone-else"}}) == kernel_of({}) == "python3"
    original, copy = shelf_and_desk(tmp_path, py("print(1)", "1\n"))
    monkeypatch.setattr(lessons, "kernel_of", lambda metadata: "no-such-kernel")
    assert lessons.try_copy(copy, original) == ["there is no kernel fsdl-extras here: make extras installs it"]
