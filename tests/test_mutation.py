"""The checks notice changes of the solutions: each small change of a solution's syntax tree is rejected, or known to do the same, with the reason."""
import os

import pytest

from fsdl_course.handout import exercises
from tools.exercises import lessons_with_exercises
from tools.files import ROOT
from tools.mutation import ENOUGH, MOST, Judge, known, mutations, score

EXERCISES = [
    pytest.param(notebook, exercise, id=f"{notebook.relative_to(ROOT / 'nbs').with_suffix('')}:{exercise.name}")
    for notebook in lessons_with_exercises()
    for exercise in exercises(notebook)
]
SOURCE = '''
def halves(numbers, most):
    "A docstring is no code."
    total = 0
    for number in numbers:
        if number % 2 == 0 and number <= most:
            total += number // 2
    return min(total, most)
'''


def test_every_kind_of_change_is_made_once_and_can_be_compiled():
    found = mutations(SOURCE)
    assert len({one.source for one in found}) == len(found) >= 40
    changes = "\n".join(one.change for one in found)
    for told in ("+ if number % 2 != 0 and number <= most:", "+ if number % 2 == 0 or number <= most:", "+ if number % 2 == 0 and number < most:", "+ total -= number // 2",
                 "+ return max(total, most)", "+ for number in list(numbers)[1:]:", "+ if True:", "+ total = 1", "+ total = number // 2", "+ pass"):  # fmt: skip
        assert told in changes, told
    assert "docstring" not in changes
    for one in found:
        compile(one.source, "mutant", "exec")


def test_a_change_is_known_by_its_lines_alone():
    "So a reason in mutants.json stays where other lines of the solution are edited."
    longer = SOURCE.replace("total = 0", "numbers = list(numbers)\n    total = 0")
    assert {one.change for one in mutations(SOURCE)} <= {one.change for one in mutations(longer)}


def test_reasons_are_given_for_exercises_that_exist():
    names = {parameters.values[1].name for parameters in EXERCISES}
    assert set(known()) <= names and all(reason.strip() for changes in known().values() for reason in changes.values())


@pytest.fixture(scope="module")
def judge():
    "A process that tries mutants. A rank that waits in vain is given up sooner than a learner's."
    before = os.environ.get("FSDL_TIMEOUT")
    os.environ["FSDL_TIMEOUT"] = "20"
    judge = Judge()
    yield judge
    judge.close()
    os.environ.pop("FSDL_TIMEOUT") if before is None else os.environ.update(FSDL_TIMEOUT=before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("notebook, exercise", EXERCISES)
def test_no_mutant_survives_without_a_reason(notebook, exercise, judge):
    result = score(notebook, exercise, judge)
    print(result)
    assert result.tried >= min(result.possible, ENOUGH), result
    assert not result.survived and not result.stale, str(result)


def test_most_are_enough():
    assert MOST >= ENOUGH
