"""Who may know whom in the package: every import of every module, also those inside functions, is one that the design allows, and none goes round in a circle."""
import ast
import sys
from pathlib import Path

import pytest

from tools.files import ROOT

PACKAGE = ROOT / "fsdl_course"
# The ground that everything else stands on: each of these names the others it may import
GROUND = {
    "units": set(),
    "arguments": set(),
    "lazy": set(),
    "settings": {"arguments"},
    "pictures": {"units"},
    "spec": {"arguments", "units"},
    "schedules": {"arguments", "pictures", "spec", "units"},
    "ledger": {"arguments", "units", "spec", "schedules"},
    "snapshots": {"arguments"},
    "differences": set(),
    "disks": set(),
    "diverge": {"arguments", "units", "spec", "ledger", "schedules", "pictures"},
}
KNOWN_BY_ALL = set(GROUND)
# The parts above it (a module or a subpackage), and whom each may import besides the ground
ABOVE = {
    "widgets": set(),
    "exercises": set(),
    "answers": {"exercises"},
    "handout": {"fsdl_course"},
    "grading": {"exercises", "fsdl_course", "handout", "cli"},
    "cli": {"fsdl_course", "grading", "handout", "software", "tracking"},
    "__main__": {"cli"},
    "models": set(),
    "compute": {"widgets"},
    "parallel": {"fsdl_course", "models", "widgets"},
    "frameworks": {"models", "widgets"},
    # These ask `compute` what something costs, unless the caller passes a function of its own
    "tracking": {"compute", "widgets"},
    "resources": {"compute", "widgets"},
    "software": {"widgets"},
}
# (module, what it imports): why it may, although the rule says no. An entry that is no longer needed fails a test.
EXCEPTIONS = {}
# (module, what it imports): why this import closes a circle. The same holds.
CIRCLES = {}
# What may be imported when these are: nothing but the standard library, so that they load at once and run in a browser
LIGHT = {*GROUND, "compute"}
THIRD_PARTY = {("pictures", "drawsvg"): "a small library of pure Python that draws SVG"}


def name_of(path: Path, package: Path = PACKAGE) -> str:
    "The module of a file, seen from the package: parallel/training.py -> parallel.training; the package's own `__init__` is fsdl_course."
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "fsdl_course"


def resolved(node: ast.AST, path: Path, package: Path = PACKAGE) -> list[str]:
    "The modules, with their full names, that an import statement or a call of `import_module` with a literal asks for."
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        here = [package.name, *path.relative_to(package).parts[:-1]]
        base = [*here[: len(here) - node.level + 1], *filter(None, [node.module])] if node.level else [node.module]
        found = []
        for alias in node.names:
            inside = package.parent.joinpath(*".".join(base).split("."), alias.name)
            found.append(".".join([*base, alias.name] if inside.with_suffix(".py").exists() or inside.is_dir() else base))
        return found
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
        return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def own_imports(path: Path, package: Path = PACKAGE) -> set[str]:
    "The package's modules that a file imports anywhere, seen from the package."
    found = {name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for name in resolved(node, path, package)}
    return {name.removeprefix(f"{package.name}.") for name in found if name.split(".")[0] == package.name} - {name_of(path, package)}


def part(module: str) -> str:
    "The part of the package that a module belongs to: parallel.training -> parallel."
    return module.split(".")[0]


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "_modidx.py"}
IMPORTS = {module: own_imports(path) for module, path in MODULES.items()}


def forbidden(module: str) -> set[tuple[str, str]]:
    "(module, what it imports) for each import that the rule does not allow."
    mine = part(module)
    allowed = GROUND[mine] if mine in GROUND else KNOWN_BY_ALL | ABOVE[mine] | {mine}
    return {(module, other) for other in IMPORTS[module] if part(other) not in allowed}


def circles() -> set[tuple[str, str]]:
    "The imports (module, other) from whose other end a chain of imports leads back."
    def reach(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for other in IMPORTS.get(waiting.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return seen

    reached = {module: reach(module) for module in IMPORTS}
    return {(module, other) for module, others in IMPORTS.items() for other in others if module in reached.get(other, ())}


@pytest.mark.parametrize("module", [module for module in MODULES if module != "fsdl_course"])
def test_a_module_imports_only_what_it_may_know(module):
    assert part(module) in GROUND or part(module) in ABOVE, f"say in tests/test_imports.py whom {part(module)!r} may import"
    wrong = forbidden(module) - set(EXCEPTIONS)
    assert not wrong, "; ".join(f"{module} must not import {other}" for _, other in sorted(wrong))


def test_no_import_goes_round_in_a_circle():
    found = circles()
    allowed = {pair for one in CIRCLES for pair in (one, one[::-1])}
    assert not found - allowed, f"these close a circle: {sorted(found - allowed)}"


def test_every_exception_is_still_needed():
    needed = {pair for module in MODULES if module != "fsdl_course" for pair in forbidden(module)}
    assert set(EXCEPTIONS) <= needed, f"no longer needed: {sorted(set(EXCEPTIONS) - needed)}"
    assert set(CIRCLES) <= circles(), f"no longer needed: {sorted(set(CIRCLES) - circles())}"
    assert all(EXCEPTIONS.values()) and all(CIRCLES.values()) and all(THIRD_PARTY.values())


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) in LIGHT and not module.endswith("widgets")])
def test_light_modules_need_only_the_standard_library(module):
    path = MODULES[module]
    outer = [name for node in ast.parse(path.read_text(encoding="utf-8")).body for name in resolved(node, path)]
    heavy = {name.split(".")[0] for name in outer} - sys.stdlib_module_names - {"fsdl_course"}
    assert not {(module, name) for name in heavy} - set(THIRD_PARTY), f"{module} imports {sorted(heavy)}"


def test_imports_are_found_wherever_they_stand(tmp_path):
    package = tmp_path / "pack"
    (package / "low").mkdir(parents=True)
    for name in ("a", "b", "c", "d", "low/__init__", "low/e"):
        (package / f"{name}.py").write_text("")
    inside = package / "low" / "f.py"
    inside.write_text(
        "import os\nfrom ..a import x\nfrom .. import b\nfrom .e import y\nimport pack.c as c\n"
        "def later():\n    from pack import d\n    import importlib\n    importlib.import_module('pack.low')\n"
    )
    assert own_imports(inside, package) == {"a", "b", "low.e", "c", "d", "low"}
    (package / "low" / "__init__.py").write_text("from .f import z\n")
    assert own_imports(package / "low" / "__init__.py", package) == {"low.f"}
    assert name_of(package / "__init__.py", package) == "fsdl_course" and name_of(package / "low" / "__init__.py", package) == "low"


def test_a_wrong_import_is_seen(monkeypatch):
    monkeypatch.setitem(IMPORTS, "spec", {"arguments", "compute.configs"})
    with pytest.raises(AssertionError, match="spec must not import compute.configs"):
        test_a_module_imports_only_what_it_may_know("spec")
    monkeypatch.setitem(IMPORTS, "units", {"ledger"})
    with pytest.raises(AssertionError, match="close a circle.*'units', 'ledger'"):
        test_no_import_goes_round_in_a_circle()


def test_the_ground_is_where_the_design_puts_it():
    for module in ("spec", "ledger", "schedules", "pictures", "settings", "units", "arguments"):
        assert all(other in GROUND for other in IMPORTS[module]), f"{module} names {IMPORTS[module]}"
    assert ("compute", "parallel") not in {(part(module), part(other)) for module, others in IMPORTS.items() for other in others}
    assert ("parallel", "compute") not in {(part(module), part(other)) for module, others in IMPORTS.items() for other in others}
