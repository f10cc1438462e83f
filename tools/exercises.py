"""Run the exercises of a lesson outside of Jupyter: solutions, stubs and mutants, each as a learner would define it.

A lesson's exercises may use the notebook's imports and its cells marked `#| setup`, and nothing else; here they get just that.
"""
import ast
import linecache
from dataclasses import dataclass, field
from pathlib import Path

from fsdl_course.exercises import CHECKERS, Verdict, check
from fsdl_course.handout import Exercise, Mutant, code, directives, exercises, is_test, read_notebook
from tools.files import ROOT, notebooks


def run_code(source: str, label: str, names: dict) -> None:
    "Execute a cell in the namespace `names`; its lines show in tracebacks, and `inspect.getsource` finds them."
    filename = f"<{label}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)


def import_statements(cells: list[dict]) -> list[str]:
    "The import statements at the top level of the notebook's cells."
    lines = []
    for cell in cells:
        marks = directives(cell["source"])
        if is_test(cell["source"]) or "mutant" in marks or marks.get("eval") == "false":
            continue
        try:
            body = ast.parse(code(cell["source"])).body
        except SyntaxError:  # a magic: it defines nothing that an exercise may use
            continue
        lines += [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return lines


@dataclass
class Classroom:
    "A lesson's exercises with the names that they may use."

    notebook: Path
    exercises: list[Exercise] = field(init=False)
    names: dict = field(init=False)

    def __post_init__(self):
        self.exercises = exercises(self.notebook)
        cells = [cell for cell in read_notebook(self.notebook)["cells"] if cell["cell_type"] == "code"]
        # As in a notebook: functions of `__main__` travel to other processes by value
        self.names = {"__name__": "__main__"}
        for line in dict.fromkeys(import_statements(cells)):
            exec(line, self.names)
        for cell in cells:
            marks = directives(cell["source"])
            if "setup" in marks or "check" in marks:
                run_code(code(cell["source"]), f"{self.notebook.name} #{cell.get('id', '?')}", self.names)

    def answer(self, exercise: Exercise, source: str, name: str, label: str) -> object:
        "What `name` is once `source` has run after the solutions of all earlier exercises."
        names = dict(self.names)
        for earlier in self.exercises[: self.exercises.index(exercise)]:
            run_code(earlier.solution, f"{self.notebook.name} #{earlier.cell}", names)
        run_code(source, f"{self.notebook.name} #{label}", names)
        if name not in names:
            raise NameError(f"{self.notebook.name}: the cell of {label} defines no {name!r}")
        return names[name]

    def solution(self, exercise: Exercise) -> Verdict:
        "What the check says of the solution."
        return check(exercise.name, self.answer(exercise, exercise.solution, exercise.name, exercise.cell))

    def stub(self, exercise: Exercise) -> Verdict:
        "What the check says of the untouched stub."
        return check(exercise.name, self.answer(exercise, exercise.stub, exercise.name, exercise.cell))

    def mutant(self, exercise: Exercise, mutant: Mutant) -> Verdict:
        "What the check says of a planted wrong solution."
        return check(exercise.name, self.answer(exercise, mutant.source, mutant.definition, mutant.cell))


def lessons_with_exercises(root: Path = ROOT) -> list[Path]:
    "The notebooks that hold at least one exercise."
    return [path for path in notebooks() if path.is_relative_to(root) and exercises(path)]


__all__ = ["CHECKERS", "Classroom", "lessons_with_exercises", "run_code"]
