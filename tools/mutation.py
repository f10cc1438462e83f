"""Mutants of the exercises' own solutions: each is a small change of the solution's syntax tree, and the check must reject it.

`python -m tools.mutation [--all] [nbs/...] [EXERCISE ...]` tries them, and prints the score of each lesson and the source of each survivor.
Survivors that do the same as the solution, or what the exercise allows as well, stand in `tests/mutants.json` with the reason:
{exercise: {change: reason}}. A change is written as the lines that go and the lines that come, so it stays known while other lines are edited.
"""
import ast
import copy
import difflib
import hashlib
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path

from fsdl_course.exercises import check
from fsdl_course.handout import Exercise, exercises
from tools.exercises import Classroom, lessons_with_exercises
from tools.files import ROOT, replace

KNOWN = ROOT / "tests" / "mutants.json"
CACHE = ROOT / ".make" / "mutation"
MOST = 30  # mutants of an exercise that are tried, unless all are asked for
ENOUGH = 20
SECONDS = 8.0  # at least, for the check of one mutant; ten times what the solution takes, if that is more

OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Add, ast.FloorDiv], ast.Div: [ast.Mult, ast.FloorDiv], ast.FloorDiv: [ast.Div, ast.Mult],
    ast.Mod: [ast.FloorDiv], ast.Pow: [ast.Mult], ast.BitOr: [ast.BitAnd], ast.BitAnd: [ast.BitOr], ast.BitXor: [ast.BitOr],
    ast.LShift: [ast.RShift], ast.RShift: [ast.LShift], ast.MatMult: [ast.Mult],
}  # fmt: skip
COMPARISONS = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE], ast.Eq: [ast.NotEq, ast.GtE],
    ast.NotEq: [ast.Eq, ast.Gt], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
# Names that stand for each other's opposite, as functions, methods or constants
OPPOSITES = [
    ("min", "max"), ("any", "all"), ("floor", "ceil"), ("SUM", "MAX"), ("append", "appendleft"), ("popleft", "pop"), ("amin", "amax"), ("argmin", "argmax"),
    ("parameters", "buffers"), ("keys", "values"), ("startswith", "endswith"), ("removeprefix", "removesuffix"), ("lstrip", "rstrip"), ("sum", "len"),
    ("sum", "mean"), ("zeros_like", "ones_like"), ("zeros", "ones"), ("empty_like", "zeros_like"), ("float32", "float64"), ("union", "intersection"),
]  # fmt: skip
# Calls that hand on a part of what they get, or the same in another order or form
PASSING = {"sorted", "reversed", "set", "list", "tuple", "abs", "int", "round", "clone", "detach", "contiguous", "dict", "float", "sum", "copy", "deepcopy"}


@dataclass(frozen=True)
class Mutation:
    "One changed solution: `what` kind of change, and the `change` itself as lines that go (-) and come (+)."

    what: str
    source: str
    change: str


class _Sites(ast.NodeVisitor):
    "Every place of a tree where something can be changed: (kind, a path to the node, the node in its place)."

    def __init__(self, tree: ast.Module):
        self.found: list[tuple[str, list, object]] = []
        self.names: list[str] = []
        self._walk(tree, [])

    def _walk(self, node: ast.AST, path: list) -> None:
        former = self.names
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            arguments = node.args
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            names += [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
            self.names = [name for name in dict.fromkeys([*names, *former]) if name not in ("self", "ctx")]
        for what, new in _changes(node, self.names):
            self.found.append((what, path, new))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list") or (isinstance(node, ast.FunctionDef | ast.Lambda) and name == "args"):
                continue
            if isinstance(value, ast.AST):
                self._walk(value, [*path, (name, None)])
            elif isinstance(value, list):
                for place, part in enumerate(value):
                    if isinstance(part, ast.AST) and not _is_docstring(value, part):
                        self._walk(part, [*path, (name, place)])
        self.names = former


def _is_docstring(body: list, part: ast.AST) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    "A copy of the node with other fields."
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plus(node: ast.expr, more: int) -> ast.expr:
    operator = ast.Add() if more > 0 else ast.Sub()
    return ast.BinOp(node, operator, ast.Constant(abs(more)))


def _changes(node: ast.AST, names: list[str]) -> Iterator[tuple[str, ast.AST]]:
    "What can stand in the node's place instead, and the kind of each change."
    match node:
        case ast.BinOp(left, op, right):
            for other in OPERATORS.get(type(op), []):
                yield "operator", _with(node, op=other())
            if isinstance(op, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod | ast.Pow | ast.MatMult):
                yield "swapped operands", _with(node, left=right, right=left)
            yield "dropped operand", left
            yield "dropped operand", right
        case ast.Compare(left, [op, *more_ops], comparators):
            for other in COMPARISONS.get(type(op), []):
                yield "comparison", _with(node, ops=[other(), *more_ops])
            if more_ops:
                yield "dropped comparison", ast.Compare(left, [op], comparators[:1])
                yield "dropped comparison", ast.Compare(comparators[0], more_ops, comparators[1:])
        case ast.BoolOp(op, values):
            yield "and, or", _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
            for place in range(len(values)):
                rest = values[:place] + values[place + 1 :]
                yield "dropped condition", rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op, operand):
            yield "dropped sign", operand
        case ast.Constant(value) if isinstance(value, bool):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value) if _number(value):
            for other in dict.fromkeys((value + 1, value - 1, *((-1,) if value == 0 else (0,)), *((value * 2,) if isinstance(value, float) else ()))):
                if other != value:
                    yield "constant", ast.Constant(other)
        case ast.Constant(None):
            yield "constant", ast.Constant(0)
        case ast.Subscript(value, index, ctx) if isinstance(ctx, ast.Load):
            if isinstance(index, ast.Slice):
                for bound in ("lower", "upper", "step"):
                    if getattr(index, bound) is not None:
                        yield "dropped bound", _with(node, slice=_with(index, **{bound: None}))
                        yield "off by one", _with(node, slice=_with(index, **{bound: _plus(getattr(index, bound), 1)}))
                        yield "off by one", _with(node, slice=_with(index, **{bound: _plus(getattr(index, bound), -1)}))
            elif isinstance(index, ast.Constant) and index.value == 0:
                yield "first, last", _with(node, slice=ast.Constant(-1))
            elif isinstance(index, ast.UnaryOp):
                yield "first, last", _with(node, slice=ast.Constant(0))
            elif not isinstance(index, ast.Constant | ast.Tuple):
                yield "off by one", _with(node, slice=_plus(index, -1))
        case ast.Call(func, args, keywords):
            name = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
            if len(args) >= 2 and name not in ("min", "max"):
                yield "swapped arguments", _with(node, args=[args[1], args[0], *args[2:]])
            for place in range(len(args) if len(args) >= 2 else 0):
                yield "dropped argument", _with(node, args=args[:place] + args[place + 1 :])
            for place in range(len(keywords)):
                yield "dropped keyword", _with(node, keywords=keywords[:place] + keywords[place + 1 :])
            if name in PASSING:
                if isinstance(func, ast.Attribute) and not args:
                    yield "dropped call", func.value
                elif len(args) == 1 and not isinstance(args[0], ast.Starred | ast.GeneratorExp):
                    yield "dropped call", args[0]
            if name == "range":
                last = min(len(args), 2) - 1
                yield "off by one", _with(node, args=[*args[:last], _plus(args[last], -1), *args[last + 1 :]])
                yield "off by one", _with(node, args=[*args[:last], _plus(args[last], 1), *args[last + 1 :]])
                if len(args) == 1:
                    yield "first left out", _with(node, args=[ast.Constant(1), *args])
        case ast.Name(name, ctx) if isinstance(ctx, ast.Load):
            if name in names and len(names) > 1:
                yield "another name", ast.Name(names[(names.index(name) + 1) % len(names)], ast.Load())
        case ast.IfExp(test, body, orelse):
            yield "one branch", body
            yield "one branch", orelse
            yield "swapped branches", _with(node, body=orelse, orelse=body)
        case ast.comprehension(ifs=[_, *_]):
            for place in range(len(node.ifs)):
                yield "dropped filter", _with(node, ifs=node.ifs[:place] + node.ifs[place + 1 :])
        case ast.If():
            yield "always", _with(node, test=ast.Constant(True))
            yield "never", _with(node, test=ast.Constant(False))
        case ast.For(target, iterated):
            yield "first left out", _with(node, iter=_sliced(iterated, ast.Slice(lower=ast.Constant(1))))
            yield "last left out", _with(node, iter=_sliced(iterated, ast.Slice(upper=ast.Constant(-1))))
            yield "dropped loop", ast.Pass()
        case ast.While():
            yield "dropped loop", ast.Pass()
        case ast.AugAssign(target, op, value):
            for other in OPERATORS.get(type(op), []):
                yield "operator", _with(node, op=other())
            yield "not added up", ast.Assign([target], value)
            yield "dropped statement", ast.Pass()
        case ast.Continue():
            yield "continue, break", ast.Break()
        case ast.Break():
            yield "continue, break", ast.Continue()
            yield "dropped statement", ast.Pass()
        case ast.Expr() | ast.Assign() | ast.Delete() | ast.Assert() | ast.Raise():
            yield "dropped statement", ast.Pass()
        case ast.With(body=body):
            yield "dropped context", ast.If(ast.Constant(True), body, [])
        case ast.Return(value) if value is not None:
            yield "returns nothing", ast.Return(None)
            if not isinstance(value, ast.Constant | ast.Tuple | ast.List | ast.Dict | ast.Call | ast.ListComp | ast.DictComp | ast.Lambda):
                yield "off by one", ast.Return(_plus(value, 1))
        case ast.Tuple(elts, ctx) if isinstance(ctx, ast.Load) and len(elts) == 2:
            yield "swapped parts", _with(node, elts=elts[::-1])
        case ast.List(elts) if len(elts) >= 1 and isinstance(node.ctx, ast.Load):
            yield "dropped part", _with(node, elts=elts[1:])
            yield "dropped part", _with(node, elts=elts[:-1])
        case ast.Dict(keys, values) if len(keys) >= 2:
            yield "swapped values", _with(node, values=[values[1], values[0], *values[2:]])
            yield "dropped part", _with(node, keys=keys[:-1], values=values[:-1])
        case _:
            pass
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
    for pair in OPPOSITES:
        if name in pair and isinstance(node.ctx, ast.Load):
            other = pair[1 - pair.index(name)]
            yield "opposite", _with(node, attr=other) if isinstance(node, ast.Attribute) else _with(node, id=other)


def _sliced(iterated: ast.expr, part: ast.Slice) -> ast.expr:
    return ast.Subscript(ast.Call(ast.Name("list", ast.Load()), [iterated], []), part, ast.Load())


def _replaced(tree: ast.Module, path: list, new: ast.AST) -> ast.Module:
    "The tree with `new` at `path`; only the nodes on the way are copied."
    if not path:
        return new
    (name, place), *rest = path
    child = getattr(tree, name)
    if place is None:
        return _with(tree, **{name: _replaced(child, rest, new)})
    return _with(tree, **{name: [*child[:place], _replaced(child[place], rest, new), *child[place + 1 :]]})


def _change(before: str, after: str) -> str:
    "The lines that go and those that come, without their numbers."
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return "\n".join(re.sub(r"^([-+]) \s*", r"\1 ", line) for line in lines if line[:2] in ("- ", "+ "))


def mutations(source: str) -> list[Mutation]:
    "All mutants of a solution, each another text, in an order that mixes the kinds and that edits elsewhere hardly change."
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    found: dict[str, Mutation] = {}
    for what, path, new in _Sites(tree).found:
        mutated = ast.fix_missing_locations(copy.deepcopy(_replaced(tree, path, new)))
        text = ast.unparse(mutated)
        with warnings.catch_warnings(action="ignore"):  # `is 0` is bad style, and a mutant
            try:
                compile(text, "mutant", "exec")
            except SyntaxError:
                continue
        if text != plain:
            found.setdefault(text, Mutation(what, text, _change(plain, text)))
    return sorted(found.values(), key=lambda one: hashlib.sha256(one.change.encode()).digest())


def _serve(channel: Connection, folder: str) -> None:
    "In a process of its own, and in `folder`: judge one mutant after the other, as (lesson, exercise, source)."
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(folder)  # a mutant that swaps a path for a text writes a file of that name
    rooms: dict[Path, Classroom] = {}
    while True:
        notebook, name, source = channel.recv()
        room = rooms[notebook] if notebook in rooms else rooms.setdefault(notebook, Classroom(notebook))
        exercise = next(one for one in room.exercises if one.name == name)
        try:
            verdict = check(name, room.answer(exercise, source or exercise.solution, name, "mutant"))
            channel.send((verdict.passed, verdict.message))
        except BaseException as error:  # a cell that can't be run at all
            channel.send((False, f"{type(error).__name__} where the answer is defined"))


class Judge:
    "A process that tries mutants, and is replaced by a new one where a mutant does not end."

    def __init__(self):
        self.process = None

    def __call__(self, notebook: Path, name: str, source: str, seconds: float) -> tuple[bool, str]:
        "Whether the check accepts the source, and what it says."
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.channel, other = context.Pipe()
            self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            self.process = context.Process(target=_serve, args=(other, self.folder.name))
            self.process.start()
            other.close()
            seconds += 60  # to start, and to import what the lesson imports
        try:
            self.channel.send((notebook, name, source))
            if self.channel.poll(seconds):
                return self.channel.recv()
            said = (False, f"does not end within {seconds:.0f} s")
        except (EOFError, OSError):
            said = (False, "ends the process")
        self.close()
        return said

    def close(self) -> None:
        "End the process."
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.channel.close()
            self.folder.cleanup()
            self.process = None


@dataclass
class Score:
    "What became of an exercise's mutants."

    notebook: Path
    exercise: str
    possible: int
    killed: list[Mutation]
    equivalent: list[Mutation]
    survived: list[Mutation]
    stale: list[str]  # known as equivalent, but no mutant any more
    seconds: float = 0.0

    @property
    def lesson(self) -> str:
        "The lesson as folder/name."
        return str(self.notebook.relative_to(ROOT / "nbs").with_suffix(""))

    @cached_property
    def tried(self) -> int:
        "How many mutants were tried."
        return len(self.killed) + len(self.equivalent) + len(self.survived)

    def __str__(self) -> str:
        lines = [f"{self.lesson}:{self.exercise}: {len(self.killed)} of {self.tried} killed, {len(self.equivalent)} equivalent, "
                 f"{len(self.survived)} survived ({self.possible} possible, {self.seconds:.0f} s)"]  # fmt: skip
        for one in self.survived:
            lines += [f"  survived ({one.what}):", *(f"    {line}" for line in one.change.splitlines())]
        lines += [f"  no mutant any more, take it out of {KNOWN.name}: {change!r}" for change in self.stale]
        return "\n".join(lines)


def known() -> dict[str, dict[str, str]]:
    "The survivors that are explained: {exercise: {change: reason}}."
    return json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}


def _key(notebook: Path, exercise: Exercise) -> str:
    "What a verdict depends on: all code of the lesson, and of the package."
    cells = [cell["source"] for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    package = [path.read_bytes() for path in sorted((ROOT / "fsdl_course").rglob("*.py"))]
    return hashlib.sha256(json.dumps([exercise.name, cells]).encode() + b"".join(package)).hexdigest()


def score(notebook: Path, exercise: Exercise, judge: Judge, most: int | None = MOST) -> Score:
    "Try mutants of the exercise's solution; verdicts of an earlier run on the same code are read again."
    begun = time.monotonic()
    every = mutations(exercise.solution)
    explained = known().get(exercise.name, {})
    # Those explained are tried as well: one that the check rejects after all needs no reason
    cache = CACHE / f"{exercise.name}-{_key(notebook, exercise)[:16]}.json"
    verdicts = json.loads(cache.read_text()) if cache.exists() else {}
    result = Score(notebook, exercise.name, len(every), [], [], [], [change for change in explained if change not in {one.change for one in every}])
    took = None
    for one in every[:most]:
        if one.source not in verdicts:
            if took is None:
                start = time.monotonic()
                passed, said = judge(notebook, exercise.name, "", 120)
                took = time.monotonic() - start
                if not passed:
                    raise AssertionError(f"{result.lesson}:{exercise.name}: the solution itself is not accepted: {said}")
            verdicts[one.source] = judge(notebook, exercise.name, one.source, max(SECONDS, 10 * took))
        passed = verdicts[one.source][0]
        (result.killed if not passed else result.equivalent if one.change in explained else result.survived).append(one)
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{exercise.name}-*.json"):
        old.unlink(missing_ok=True)
    replace(cache, json.dumps(verdicts))
    result.seconds = time.monotonic() - begun
    return result


def table(scores: list[Score]) -> str:
    "The score of each lesson, in one line each."
    lines = []
    for lesson in dict.fromkeys(one.lesson for one in scores):
        its = [one for one in scores if one.lesson == lesson]
        killed, equivalent, tried = (sum(count) for count in zip(*((len(one.killed), len(one.equivalent), one.tried) for one in its), strict=True))
        lines.append(f"{lesson:32} {killed:5} killed of {tried - equivalent:5} ({killed / max(1, tried - equivalent):6.1%}), {equivalent:3} equivalent")
    return "\n".join(lines)


def main(words: list[str]) -> int:
    "The command line; 1 where mutants survive that nobody has explained."
    most = None if "--all" in words else MOST
    words = [word for word in words if word != "--all"]
    folders = [Path(word).resolve() for word in words if Path(word).exists()] or [ROOT]
    names = [word for word in words if not Path(word).exists()]
    found = [(path, one) for path in lessons_with_exercises() for one in exercises(path)]
    found = [(path, one) for path, one in found if any(path.is_relative_to(folder) for folder in folders) and (not names or one.name in names)]
    judges = [Judge() for _ in range(min(os.cpu_count() or 1, len(found)))]

    def work(pair: tuple[Path, Exercise]) -> Score:
        judge = judges.pop()
        try:
            done = score(*pair, judge, most)
            print(done, flush=True)
            return done
        finally:
            judges.append(judge)

    try:
        with ThreadPoolExecutor(len(judges)) as pool:
            scores = list(pool.map(work, found))
    finally:
        for judge in judges:
            judge.close()
    print(table(scores))
    return int(any(one.survived or one.stale for one in scores))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
