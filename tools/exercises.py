"""Run the exercises of a lesson outside of Jupyter: solutions, stubs and planted answers, each as a learner would define it.

A lesson's exercises may use the notebook's imports and its cells marked `#| setup`, and nothing else; here they get just that.
`python -m tools.exercises [nbs/...]` tells how many answers are planted for each exercise, and for which no copied answer is tried yet.
"""
import ast
import linecache
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fsdl_course.exercises import CHECKERS, Verdict, check
from fsdl_course.handout import Exercise, Mutant, code, directives, exercises, read_notebook
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
        if {"mutant", "copy"} & set(marks) or marks.get("eval") == "false":
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

    def planted(self, exercise: Exercise, planted: Mutant) -> Verdict:
        "What the check says of a planted answer, a mutant or a copy."
        return check(exercise.name, self.answer(exercise, planted.source, planted.definition, planted.cell))


def lessons_with_exercises(root: Path = ROOT) -> list[Path]:
    "The notebooks that hold at least one exercise."
    return [path for path in notebooks() if path.is_relative_to(root) and exercises(path)]


def without_copies(root: Path = ROOT) -> list[str]:
    "The exercises, as lesson:name, for which no cell `#| copy NAME: ...` tries an answer that is copied from the lesson or the package."
    return [f"{path.relative_to(ROOT / 'nbs').with_suffix('')}:{one.name}" for path in lessons_with_exercises(root) for one in exercises(path) if not one.copies]


def summary(root: Path = ROOT) -> str:
    "How many answers are planted, and the exercises for which no copied one is."
    every = [one for path in lessons_with_exercises(root) for one in exercises(path)]
    copies = [copy for one in every for copy in one.copies]
    missing = without_copies(root)
    head = f"{len(every)} exercises, {sum(len(one.mutants) for one in every)} mutants, {len(copies)} copies ({sum(copy.fair for copy in copies)} of them fair)"
    return "\n".join([head, f"{len(missing)} exercises without a copied answer{':' if missing else ''}", *(f"  {name}" for name in missing)])


__all__ = ["CHECKERS", "Classroom", "lessons_with_exercises", "run_code", "summary", "without_copies"]


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:] or [ROOT]):
        print(summary(folder.resolve()))
