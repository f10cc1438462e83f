"""Write tests/test_<package>_<module>.py from the source notebooks' `%%ipytest` cells.

The notebook shows each test where it belongs and runs it there on the notebook's own definitions; the written file runs the same tests on the
package, without Jupyter. A test may use what its cells define, what the notebook exports, and what the notebook imports. Those names are found
and imported one by one; any other free name is an error, because the test would depend on something that only a notebook in progress has.
"""
import ast
import builtins
import symtable
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fsdl_course.handout import code, directives, is_test, read_notebook
from tools.files import HEADER, ROOT, alone, is_generated, is_source, notebooks, replace

PACKAGE = "fsdl_course"
WIDTH = 150


class TestsError(ValueError):
    "A notebook's test cells can't become a test file."

    __test__ = False  # pytest: this is no test class


@dataclass
class Cells:
    "What a notebook offers to its tests, and the tests."

    imports: dict[str, ast.stmt] = field(default_factory=dict)  # name -> a statement that imports just it
    exports: dict[str, set[str]] = field(default_factory=dict)  # name -> modules that define it
    tests: list[tuple[str, str]] = field(default_factory=list)  # (cell's id, code)


def test_file(notebook: Path, root: Path = ROOT) -> Path:
    "Where the tests of `notebook` go: nbs/source/parallel/processes.ipynb -> tests/test_parallel_processes.py."
    parts = notebook.relative_to(root / "nbs" / "source").with_suffix("").parts
    return root / "tests" / f"test_{'_'.join(parts).removesuffix('_index')}.py"


test_file.__test__ = False


def single_imports(node: ast.stmt) -> dict[str, ast.stmt]:
    "The names that an import statement binds, each with a statement that imports it alone."
    found = {}
    for alias in node.names:
        one = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], node.level)
        found[alias.asname or (alias.name.split(".")[0] if isinstance(node, ast.Import) else alias.name)] = one
    return found


def defined_names(body: list[ast.stmt]) -> set[str]:
    "The names that statements bind at their own level, import statements aside."
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                names |= defined_names(getattr(node, part, []))
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names


def free_names(source: str) -> set[str]:
    "The names that the code uses but neither defines at its top level nor finds among the builtins."
    used: set[str] = set()
    top = symtable.symtable(source, "cell", "exec")
    here = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                used.add(symbol.get_name())
    return used - here - set(dir(builtins)) - {"__name__", "__file__", "__doc__"}


def module_of(directive: str, default: str) -> str:
    "The module that a cell is exported into: `parallel.__init__` -> fsdl_course.parallel."
    name = directive or default
    return f"{PACKAGE}.{name}".removesuffix(".__init__")


def read_cells(notebook: Path) -> Cells:
    "What `notebook` offers to its tests, and the tests. Raises `TestsError` for code that can't be parsed."
    cells, default = Cells(), ""
    for cell in read_notebook(notebook)["cells"]:
        if cell["cell_type"] != "code":
            continue
        marks, text, label = directives(cell["source"]), code(cell["source"]), cell.get("id", "?")
        default = marks.get("default_exp", default)
        if is_test(cell["source"]):
            cells.tests.append((label, text))
            continue
        try:
            body = ast.parse(text).body
        except SyntaxError:  # a magic or a shell line: such a cell exports nothing
            continue
        if not {"mutant", "exercise"} & set(marks):
            for node in body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    cells.imports |= single_imports(node)
        for mark in {"export", "exports", "exporti"} & set(marks):
            for name in defined_names(body):
                cells.exports.setdefault(name, set()).add(module_of(marks[mark], default))
    return cells


def without_repeats(source: str, defined: dict[str, str]) -> str:
    "The test cell without functions and classes that an earlier test cell defines word for word."
    lines = source.split("\n")
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and defined.get(node.name) == ast.dump(node):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            del lines[first - 1 : node.end_lineno]
            while first - 1 < len(lines) and not lines[first - 1].strip():
                del lines[first - 1]
    return "\n".join(lines).strip("\n")


class Renamed(ast.NodeTransformer):
    "Gives helpers of a test cell the names in `names`, wherever the cell defines or uses them."

    def __init__(self, names: dict[str, str]):
        self.names = names

    def visit_Name(self, node):
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg = self.names.get(node.arg, node.arg)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        node.name = self.names.get(node.name, node.name)
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef


def renamed(source: str, names: dict[str, str]) -> str:
    "The code with names replaced; as it stands if none of them occurs, else without its comments."
    tree = ast.parse(source)
    used = {getattr(node, "id", getattr(node, "name", getattr(node, "arg", None))) for node in ast.walk(tree)}
    if not used & set(names):
        return source
    # unparse puts no blank lines between statements
    return "\n\n\n".join(ast.unparse(node) for node in Renamed(names).visit(tree).body)


def split_imports(source: str) -> tuple[dict[str, ast.stmt], str]:
    "The imports at the top level of a test cell, and the cell without them."
    lines, found = source.split("\n"), {}
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= single_imports(node)
            del lines[node.lineno - 1 : node.end_lineno]
    return found, "\n".join(lines).strip("\n")


def resolve(names: set[str], cells: Cells, where: str) -> tuple[dict[str, ast.stmt], dict[str, set[str]]]:
    "The statements that import `names`, and the package's modules with the names to take from each."
    imports, modules = {}, {}
    for name in sorted(names):
        homes = cells.exports.get(name, set())
        if len(homes) > 1:
            raise TestsError(f"{where}: {name!r} is exported to several modules ({', '.join(sorted(homes))}); the test can't mean both")
        if homes:
            modules.setdefault(*homes, set()).add(name)
        elif name in cells.imports:
            imports[name] = cells.imports[name]
        else:
            raise TestsError(
                f"{where}: the test uses {name!r}, which is neither exported by the notebook nor imported in it;"
                " define it in the test cell, export it, or import it in an import cell"
            )
    return imports, modules


def import_lines(statements: list[ast.stmt], modules: dict[str, set[str]]) -> str:
    "Import statements in groups: the standard library, other packages, this package."
    plain: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    taken: dict[int, dict[str, set[str]]] = {0: {}, 1: {}, 2: {PACKAGE: set()}}

    def group(module: str) -> int:
        first = module.split(".")[0]
        return 2 if first == PACKAGE else 0 if first in sys.stdlib_module_names else 1

    for node in statements:
        if isinstance(node, ast.Import):
            plain[group(node.names[0].name)].add(ast.unparse(node))
        else:
            taken[group(node.module)].setdefault(node.module, set()).add(ast.unparse(node.names[0]))
    for module, names in modules.items():
        taken[2].setdefault(module, set()).update(names)
    blocks = []
    for number in range(3):
        lines = sorted(plain[number]) + [from_line(module, names) for module, names in sorted(taken[number].items()) if names]
        if lines:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def from_line(module: str, names: set[str]) -> str:
    "A `from` import, over several lines where it is long."
    # isort's order: CONSTANTS, Classes, everything else
    ordered = sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in ordered) + ")"


def test_source(notebook: Path, root: Path = ROOT) -> str | None:
    "The text of the test file for `notebook`; None if it has no test cells. Raises `TestsError`, naming notebook, cell and name."
    cells = read_cells(notebook)
    if not cells.tests:
        return None
    place = f"../{notebook.relative_to(root).as_posix()}"
    imports, modules, defined, functions, blocks = {}, {}, {}, {}, []
    aliases: dict[str, str] = {}
    for number, (label, text) in enumerate(cells.tests, 1):
        where = f"{notebook.relative_to(root).as_posix()}, cell {label}"
        try:
            own, text = split_imports(text)
            text = without_repeats(text, {name: dump for name, dump in functions.items() if name not in aliases})
            new = defined_names(ast.parse(text).body)
        except SyntaxError as error:
            raise TestsError(f"{where}: the test cell is not plain Python: {error.msg} in line {error.lineno}") from None
        for name in sorted(new & set(defined)):
            if name.lower().startswith("test"):
                raise TestsError(f"{where}: {name!r} is defined in cell {defined[name]} already; the later one would silently replace it")
            # In the notebook this helper replaces the one before from here on; in a file both must live side by side
            aliases[name] = f"{name}_{number}"
        text = renamed(text, aliases)
        found, homes = resolve(free_names(text) - set(defined) - set(own), cells, where)
        new |= defined_names(ast.parse(text).body)
        defined |= {name: label for name in new}
        functions |= {node.name: ast.dump(node) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        imports |= own | found
        for module, names in homes.items():
            modules.setdefault(module, set()).update(names)
        blocks.append(f"# %% {place} #{label}\n{text}")
    # A helper of a test cell may have the name of something that is exported: the helper wins, as it does in the notebook
    imports = {name: node for name, node in imports.items() if name not in defined}
    head = f"# {HEADER} File to edit: {place}"
    return "\n\n\n".join([part for part in (f"{head}\n{import_lines(list(imports.values()), modules)}".rstrip(), *blocks)]) + "\n"


test_source.__test__ = False


def write_tests(root: Path = ROOT) -> list[Path]:
    """Write the test files of all notebooks, remove those that no notebook gives any more, and return what changed.

    A notebook whose tests can't be written ends in a SystemExit that names it, after the others are written; its old test file stays.
    """
    changed, broken, written = [], [], set()
    with alone(root):
        for notebook in filter(is_source, notebooks()):
            path = test_file(notebook, root)
            try:
                text = test_source(notebook, root)
            except TestsError as error:
                broken.append(str(error))
                written.add(path)
                continue
            if text:
                if path in written:
                    broken.append(f"{notebook.relative_to(root)}: another notebook writes {path.relative_to(root)} too")
                written.add(path)
                if replace(path, text):
                    changed.append(path)
        for path in (root / "tests").glob("test_*.py"):
            if is_generated(path) and path not in written:
                path.unlink()
                changed.append(path)
    if broken:
        sys.exit("\n".join(broken))
    return sorted(changed)


if __name__ == "__main__":
    for path in write_tests():
        print(path.relative_to(ROOT))
