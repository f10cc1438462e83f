"""Every exercise of every lesson: its solution passes, its untouched stub does not, each planted wrong answer is named for what it is, and so is each
answer that only copies what the lesson or the package has, unless copying it is fair."""
import functools
import re
from pathlib import Path

import pytest

from fsdl_course.exercises import CHECKERS, Verdict
from fsdl_course.handout import Mutant, exercises, lessons
from tools.exercises import Classroom, lessons_with_exercises, summary, without_copies
from tools.files import ROOT


@functools.cache
def classroom(notebook: Path) -> Classroom:
    "The lesson's exercises, set up once per process."
    return Classroom(notebook)


def cases() -> tuple[list, list, list]:
    "All exercises, all mutants and all copies, as pytest parameters. Behind `slow` are all but an exercise's first mutant: together they take minutes."
    found, mutants, copies = [], [], []
    for notebook in lessons_with_exercises():
        for exercise in exercises(notebook):
            label = f"{notebook.relative_to(ROOT / 'nbs').with_suffix('')}:{exercise.name}"
            found.append(pytest.param(notebook, exercise, id=label))
            for number, mutant in enumerate(exercise.mutants):
                mutants.append(pytest.param(notebook, exercise, mutant, id=f"{label}:{mutant.definition}", marks=[pytest.mark.slow] * bool(number)))
            for copy in exercise.copies:
                copies.append(pytest.param(notebook, exercise, copy, id=f"{label}:copy:{copy.definition}", marks=pytest.mark.slow))
    return found, mutants, copies


EXERCISES, MUTANTS, COPIES = cases()


def assert_rejected(verdict: Verdict, planted: Mutant) -> None:
    "Fail unless the check has rejected the answer, with a message that says what is wrong with it."
    assert not verdict.passed, f"the check accepts: {planted.what}"
    assert verdict.answered, f"the check takes the planted answer for none: {verdict.message}"
    assert planted.says, f"the planted answer {planted.what!r} has no `#| says: regex`"
    assert re.search(planted.says, verdict.message, re.I), f"nothing like {planted.says!r} in: {verdict.message}"


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
    assert_rejected(classroom(notebook).planted(exercise, mutant), mutant)


@pytest.mark.parametrize("notebook, exercise, copy", COPIES)
def test_an_answer_that_is_copied_is_told_so_unless_that_is_fair(notebook, exercise, copy):
    verdict = classroom(notebook).planted(exercise, copy)
    if copy.fair:
        assert not copy.says, "a fair copy passes, so no message is looked for: take `#| says` or `#| fair` away"
        assert verdict.passed, verdict.message
    else:
        assert_rejected(verdict, copy)


def test_exercises_without_a_copied_answer_are_counted():
    found = without_copies()
    names = {f"{parameters.values[0].relative_to(ROOT / 'nbs').with_suffix('')}:{parameters.values[1].name}" for parameters in EXERCISES}
    tried = {parameters.id.partition(":copy:")[0] for parameters in COPIES}
    assert set(found) == names - tried
    print(summary())


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
