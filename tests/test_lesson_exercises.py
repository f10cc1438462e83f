"""Every exercise of every lesson: its solution passes, its untouched stub does not, and each planted wrong solution is named for what it is."""
import functools
import re
from pathlib import Path

import pytest

from fsdl_course.exercises import CHECKERS
from fsdl_course.handout import exercises, lessons
from tools.exercises import Classroom, lessons_with_exercises
from tools.files import ROOT


@functools.cache
def classroom(notebook: Path) -> Classroom:
    "The lesson's exercises, set up once per process."
    return Classroom(notebook)


def cases() -> tuple[list, list]:
    "All exercises, and all mutants, as pytest parameters."
    found, mutants = [], []
    for notebook in lessons_with_exercises():
        for exercise in exercises(notebook):
            label = f"{notebook.relative_to(ROOT / 'nbs').with_suffix('')}:{exercise.name}"
            found.append(pytest.param(notebook, exercise, id=label))
            for mutant in exercise.mutants:
                mutants.append(pytest.param(notebook, exercise, mutant, id=f"{label}:{mutant.definition}"))
    return found, mutants


EXERCISES, MUTANTS = cases()


@pytest.mark.parametrize("notebook, exercise", EXERCISES)
def test_the_solution_passes(notebook, exercise):
    verdict = classroom(notebook).solution(exercise)
    assert verdict.passed, verdict.message
    assert verdict.message.strip(), "the check says nothing of what it verified"


@pytest.mark.parametrize("notebook, exercise", EXERCISES)
def test_the_untouched_stub_is_not_answered(notebook, exercise):
    verdict = classroom(notebook).stub(exercise)
    assert not verdict.passed and not verdict.answered, verdict


@pytest.mark.parametrize("notebook, exercise, mutant", MUTANTS)
def test_a_wrong_solution_is_rejected_for_what_is_wrong_with_it(notebook, exercise, mutant):
    verdict = classroom(notebook).mutant(exercise, mutant)
    assert not verdict.passed, f"the check accepts a wrong solution: {mutant.what}"
    assert verdict.answered, f"the check takes the wrong solution for an unanswered one: {verdict.message}"
    assert mutant.says, f"the mutant {mutant.what!r} has no `#| says: regex`"
    assert re.search(mutant.says, verdict.message, re.I), f"nothing like {mutant.says!r} in: {verdict.message}"


@pytest.mark.parametrize("notebook, exercise", EXERCISES)
def test_an_exercise_is_whole(notebook, exercise):
    assert exercise.title, "no heading `### Exercise N · title` above it"
    assert 1 <= exercise.stars <= 3 and exercise.minutes, "no line with its difficulty and minutes, like ★★☆ · 10 minutes"
    assert exercise.hints, "no hint: <details><summary>Hint 1</summary>"
    assert exercise.check, f"no cell marked `#| check {exercise.name}`"
    assert exercise.called, f'no cell calls check("{exercise.name}", ...)'
    assert exercise.mutants, "no planted wrong solution: `#| mutant NAME: what is wrong`"
    assert exercise.stub != exercise.solution, "no ### BEGIN SOLUTION and ### END SOLUTION"


def test_no_two_lessons_share_an_exercise_name():
    names = [parameters.values[1].name for parameters in EXERCISES]
    assert sorted(names) == sorted(set(names))
    for notebook in lessons_with_exercises():
        classroom(notebook)
    assert set(names) <= set(CHECKERS)


@pytest.mark.parametrize("notebook", [path for path in lessons(ROOT / "nbs") if path.name != "index.ipynb"], ids=lambda path: path.stem)
def test_a_lesson_has_three_exercises_or_more(notebook):
    assert len(exercises(notebook)) >= 3
