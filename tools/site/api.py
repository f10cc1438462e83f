"""The API pages: each is the notebook that makes a module, with its public names first, each with its signature, its docstring and its place."""
import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.site import DocsError
from tools.site.cells import code_cell, folded, markdown_cell
from tools.site.links import link_names

PACKAGE = "fsdl_course"
FEW = 14  # lines of constants that a page shows openly
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    "A module of the package and the notebook that makes it."

    name: str  # without the package's: "parallel.sharded"; "parallel" for a package's __init__
    page: str  # of its notebook, relative to nbs/: "source/parallel/sharded.ipynb"
    file: Path

    @property
    def full(self) -> str:
        return f"{PACKAGE}.{self.name}"

    @property
    def package(self) -> str:
        "The package that the module is in, or is: \"\" for the topmost one."
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.file.read_text(encoding="utf-8"))

    @functools.cached_property
    def exports(self) -> list[str]:
        "The names in its `__all__`, read without importing it."
        return _literal(self.tree, "__all__", [])

    @property
    def summary(self) -> str:
        "What it is for, in a line."
        return first_sentence(ast.get_docstring(self.tree) or "")

    @functools.cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        "{name: its definition} for everything at its top level."
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            for name in defined(node):
                found.setdefault(name, node)
        return found

    def about(self, name: str) -> str:
        "A public name in a few words: the first sentence of its docstring, or the comment at a constant."
        node = self.definitions.get(name)
        if isinstance(node, Definition):
            return first_sentence(ast.get_docstring(node) or "")
        lines = self.file.read_text(encoding="utf-8").split("\n")
        comment = re.search(r"\s#\s+(.+)$", lines[node.lineno - 1]) if node else None
        return comment[1] if comment else _kind(self.value(name))

    def rank(self, name: str) -> int:
        "Verbs come before nouns, and constants last."
        node = self.definitions.get(name)
        return 0 if isinstance(node, Function) else 1 if isinstance(node, ast.ClassDef) else 2

    def value(self, name: str) -> object:
        "What `name` is in the module, which is imported for it."
        try:
            return getattr(importlib.import_module(self.full), name)
        except Exception as error:
            raise DocsError(f"{self.full}.{name} cannot be had for its page: {type(error).__name__}: {error}") from error

    def place(self, name: str) -> str:
        "Where `name` is on the site; a name that the module only makes when asked has no place of its own on the page."
        return f"{self.page}#{name}" if name in self.exports else self.page


def modules(root: Path) -> list[Module]:
    "The modules that notebooks in nbs/source make: a package before its modules, the topmost package's modules first."
    notebooks = root / "nbs" / "source"
    found = []
    for path in notebooks.rglob("*.ipynb"):
        place = path.relative_to(notebooks)
        if any(part[0] in "._" for part in place.parts):
            continue
        parts = place.with_suffix("").parts
        parts, name = (parts[:-1], "__init__.py") if parts[-1] == "index" else (parts, f"{parts[-1]}.py")
        folder = root.joinpath(PACKAGE, *(parts if name == "__init__.py" else parts[:-1]))
        if not (folder / name).is_file():
            raise DocsError(f"nbs/source/{place} has not been exported: make export writes {PACKAGE}/{'/'.join(parts)}")
        found.append(Module(".".join(parts), f"source/{place.as_posix()}", folder / name))
    return sorted(found, key=lambda module: (module.package, not module.is_package, module.name))


def main_names(package: Path, relative: str = "") -> dict[str, list[str]]:
    "{module: the names of it that the package's `__init__` offers}, modules named as in `Module.name`."
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    offered = [*_literal(tree, "__all__", []), *_literal(tree, "_all_", [])]
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.removeprefix(f"{PACKAGE}.").removeprefix(relative)
            found.setdefault(relative + module, []).extend(alias.name for alias in node.names if alias.name in offered)
    for module, names in {**_literal(tree, "_NAMES", {}), **_literal(tree, "_LATER", {})}.items():
        found.setdefault(relative + module, []).extend(names)
    return {module: list(dict.fromkeys(names)) for module, names in found.items() if names}


def all_main_names(found: list[Module], root: Path) -> dict[str, list[str]]:
    "`main_names` of all packages together."
    names = main_names(root / PACKAGE) if (root / PACKAGE / "__init__.py").is_file() else {}
    for module in found:
        if module.is_package:
            names |= main_names(module.file.parent, f"{module.name}.")
    return names


def symbols(found: list[Module], main: Mapping[str, list[str]]) -> dict[str, str]:
    "{what prose may call it: its place}: names, methods, modules. A name of several modules has none unless it is a main name of just one."
    places: dict[str, dict[str, str]] = {}
    own: dict[str, str] = {}
    for module in found:
        own[module.full] = module.page
        if "." in module.name:
            own[module.name] = module.page
        for name in module.exports if not module.is_package else []:
            place = module.place(name)
            own[f"{module.name}.{name}"] = place
            places.setdefault(name, {})[module.name] = place
            for method in methods(module.definitions.get(name)):
                places.setdefault(f"{name}.{method.name}", {})[module.name] = f"{place}.{method.name}"
    for name, homes in places.items():
        chief = {module: place for module, place in homes.items() if name.partition(".")[0] in main.get(module, ())} or homes
        own.setdefault(name, next(iter(chief.values())) if len(chief) == 1 else "")
    return own


# ---------------------------------------------------------------------------------------------------- reading Python


def _literal(tree: ast.Module, name: str, otherwise):
    "The value of a top-level assignment that is a plain literal."
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
            return ast.literal_eval(node.value)
    return otherwise


def defined(node: ast.stmt) -> list[str]:
    "The names that a top-level statement defines."
    if isinstance(node, Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    parts = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def methods(node: ast.stmt | None) -> list[Function]:
    "The public methods of a class that say what they do."
    if not isinstance(node, ast.ClassDef):
        return []
    return [item for item in node.body if isinstance(item, Function) and not item.name.startswith("_") and ast.get_docstring(item)]


def first_sentence(doc: str) -> str:
    "The first sentence of a docstring, in one line."
    paragraph = " ".join(inspect.cleandoc(doc).partition("\n\n")[0].split())
    return re.split(r"(?<=[^.]\.)\s+(?=[A-Z`])", paragraph, maxsplit=1)[0].removesuffix(".")


def _kind(value: object) -> str:
    "A constant in a few words."
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        return f"{len(value)} values by name, each of type " + " or ".join(sorted({f"`{type(item).__name__}`" for item in value.values()}))
    return f"`{value!r}`" if len(repr(value)) < 40 else ""


def signature(node: Definition, source: str) -> str:
    "How a function or class begins, as its author wrote it, comments included: the signature, or a dataclass with its fields."
    lines = source.split("\n")
    marks = "".join(f"@{ast.unparse(item)}\n" for item in node.decorator_list)
    if isinstance(node, ast.ClassDef):
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        fields = [item for item in body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.target.id.startswith("_")]
        made = next((item for item in body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        head = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])) or f"class {node.name}:"
        inside = [line for item in fields for line in lines[item.lineno - 1 : item.end_lineno]]
        inside = textwrap.dedent("\n".join(inside)).split("\n") if inside else []
        inside += signature(made, source).split("\n") if made else []
        return (f"{marks}{head}\n" + textwrap.indent("\n".join(inside), "    ")).rstrip()
    first = node.body[0].lineno
    head = textwrap.dedent("\n".join(lines[node.lineno - 1 : first - 1])) if first > node.lineno else f"def {node.name}({ast.unparse(node.args)}): ..."
    if any(len(line) > 88 for line in head.split("\n")) and "#" not in head:  # one parameter a line
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        head = f"def {node.name}(\n" + "".join(f"    {part},\n" for part in _parameters(node.args)) + f"){returns}:"
    return marks + head


def _parameters(arguments: ast.arguments) -> list[str]:
    "The parameters of a function, each as Python writes it, with the bare `/` and `*` between them."

    def one(parameter: ast.arg, default: ast.expr | None = None, stars: str = "") -> str:
        text = stars + parameter.arg + (f": {ast.unparse(parameter.annotation)}" if parameter.annotation else "")
        equals = " = " if parameter.annotation else "="
        return text if default is None else text + equals + ast.unparse(default)

    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    parts = [one(*pair) for pair in zip(plain, defaults)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg or arguments.kwonlyargs:
        parts.append(one(arguments.vararg, stars="*") if arguments.vararg else "*")
    parts += [one(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults)]
    return parts + ([one(arguments.kwarg, stars="**")] if arguments.kwarg else [])


def _words(node: Definition) -> set[str]:
    "The parameters of a function, or the fields of a class and the parameters of its `__init__`."
    if isinstance(node, ast.ClassDef):
        inner = next((_words(item) for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), set())
        return inner | {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}
    return {item.arg for item in ast.walk(node.args) if isinstance(item, ast.arg)} - {"self", "cls"}


def described(node: Definition) -> str:
    "A docstring as markdown: its paragraphs as they are, and each parameter that it explains (`name: ...`) set in code."
    doc = ast.get_docstring(node) or ""
    words = "|".join(sorted(map(re.escape, _words(node)), key=len, reverse=True))
    if not words:
        return literal(doc)
    explained = re.compile(rf"(^|(?<=[.;)] )|(?<=[.;)] {{2}}))((?:{words})(?:(?:, | and )(?:{words}))*)(?=: )", re.M)
    return literal(explained.sub(lambda match: re.sub(r"\w+", lambda word: f"`{word[0]}`" if word[0] != "and" else "and", match[2]), doc))


def literal(text: str) -> str:
    "Markdown in which straight quotes stay straight, as in Python, and an option (`--name`) is set in code."
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if n % 2 else re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", part.replace('"', '\\"')) for n, part in enumerate(parts))


# ---------------------------------------------------------------------------------------------------------- the page


class ApiPage:
    "The cells of one module's page."

    def __init__(self, module: Module, main: list[str], places: Mapping[str, str]):
        self.module, self.main, self.places = module, main, places
        self.up = "../" * module.page.count("/")

    def linked(self, node: Definition, name: str) -> str:
        "The docstring of `name` as markdown, with names in backticks linked, save for its own and those of its parameters."
        passed_over = {name, node.name, *_words(node)}
        places = {other: place for other, place in self.places.items() if other not in passed_over}
        return link_names(described(node), places, self.up, self.module.exports)

    def exported(self, code: str, outputs: list[dict]) -> list[dict]:
        "What the page shows of a cell that is exported."
        tree = ast.parse(code).body
        if all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree):
            return [folded(code, "Imports", outputs)]
        public = [node for node in tree if any(name in self.module.exports for name in defined(node))]
        if not public or self.module.is_package:
            return [folded(code, self._private(code, tree), outputs)]
        constants = [node for node in public if not isinstance(node, Definition)]
        entries = [part for node in public if isinstance(node, Definition) for part in self.entries(node, code)]
        plain = [name for node in constants for name in defined(node) if name not in self.main]
        anchors = "".join(f'<span id="{name}"></span>' for name in plain)
        if len(constants) == len([node for node in tree if not isinstance(node, ast.Expr)]) and not set(self.main) & {name for node in constants for name in defined(node)} and code.count("\n") < FEW:
            return [markdown_cell(anchors), code_cell(code, outputs)]
        shown = [markdown_cell(anchors)] if anchors else []
        shown += [self.constant(node, code) for node in constants]
        return [*shown, *({**markdown_cell(entry), "metadata": {"linked": True}} for entry in entries), folded(code, "Source", outputs)]

    def _private(self, code: str, tree: list[ast.stmt]) -> str:
        names = [name for node in tree for name in defined(node) if isinstance(node, Definition)]
        what = ", ".join(names[:5]) + ", ..." * (len(names) > 5) if names else "Source"
        return f"{what} ({len(code.splitlines())} lines)"

    def constant(self, node: ast.stmt, code: str) -> dict:
        "A public constant: as it is written, or if that is long, what its value is."
        lines = code.split("\n")[node.lineno - 1 : node.end_lineno]
        name = defined(node)[0]
        text = "\n".join(["```python", *lines, "```"])
        if len(lines) > FEW or name in self.main:
            value = self.module.value(name)
            text = f"`{name}`: {_kind(value)}"
            if isinstance(value, dict) and all(isinstance(key, str) for key in value):
                text += ": " + ", ".join(f"`{key}`" for key in value)
        return markdown_cell(f"### `{name}` {{#{name}}}\n\n{text}\n" if name in self.main else text)

    def entries(self, node: Definition, code: str) -> list[str]:
        "A function or class, then its methods: name, signature, docstring."
        whole = [(3, node.name, node), *((4, f"{node.name}.{item.name}", item) for item in methods(node))]
        return [
            f"{'#' * level} `{name}` {{#{name}}}\n\n```python\n{signature(item, code)}\n```\n\n{self.linked(item, name)}\n"
            for level, name, item in whole
        ]

    def names(self) -> str:
        "The public names, those first that people use: a table with a line on each, then the rest."
        module = self.module
        chief = sorted((name for name in self.main if name in module.exports), key=module.rank)
        rest = [name for name in module.exports if name not in chief]
        rest.sort(key=lambda name: module.rank(name) == 2)
        if not chief:
            chief = [name for name in rest if isinstance(module.definitions.get(name), Definition)]
            rest = [name for name in rest if name not in chief]
        parts = []
        if chief:
            parts.append(table([(f"[`{name}`](#{name})", module.about(name)) for name in chief], "Name"))
        if rest:
            parts.append(f"::: {{.names}}\n{'Also here' if chief else 'Here'}: " + " · ".join(f"[`{name}`](#{name})" for name in rest) + "\n:::")
        return "\n\n".join(parts)


def table(rows: list[tuple[str, str]], head: str) -> str:
    "A markdown table of names and what they are."
    return f"| {head} | What it is |\n|---|---|\n" + "\n".join("| {} | {} |".format(name, literal(about).replace("|", "\\|")) for name, about in rows)


def package_names(package: Module, found: list[Module], main: Mapping[str, list[str]]) -> str:
    "The names that a package offers, module by module, in the order of its `__init__`."
    inside = {module.name: module for module in found if module.package == package.package and not module.is_package}
    parts = []
    for name, names in main.items():
        if module := inside.get(name):
            rows = [(f"[`{one}`]({module.place(one).rpartition('/')[2]})", module.about(one)) for one in sorted(names, key=module.rank)]
            parts.append(f"### [`{name}`]({module.page.rpartition('/')[2]})\n\n{table(rows, 'Name')}")
    return "\n\n".join(parts)


# What the course itself is made with: on the overview below what people use
HOUSE = {"answers", "arguments", "cli", "exercises", "handout", "lazy", "settings", "units", "widgets"}


def overview(found: list[Module], main: Mapping[str, list[str]]) -> str:
    "The page that lists all modules, package by package: main names first, then the modules with a line on each."
    parts = []
    for package in dict.fromkeys(module.package for module in found):
        inside = [module for module in found if module.package == package]
        head = next((module for module in inside if module.is_package), None)
        rest = [module for module in inside if not module.is_package]
        full = f"{PACKAGE}.{package}".rstrip(".")
        parts.append(f"## [`{full}`]({_local(head.page)})\n\n{head.summary}." if head else f"## `{full}`")
        names = [f"[`{name}`]({_local(module.place(name))})" for module in rest for name in main.get(module.name, [])]
        if names:
            parts.append(f"::: {{.names}}\n`from {full} import ...` " + " · ".join(names) + "\n:::")
        own = [module for module in rest if module.name in HOUSE]
        parts.append(_module_table([module for module in rest if module not in own], main))
        if own:
            parts.append("What the course itself is made with:\n\n" + _module_table(own, main))
    return "\n\n".join(parts) + "\n"


def _local(place: str) -> str:
    "A place on the site as the overview links to it."
    return place.removeprefix("source/")


def _module_table(found: list[Module], main: Mapping[str, list[str]]) -> str:
    ranked = sorted(found, key=lambda module: module.name not in main)
    return table([(f"[`{module.name.rpartition('.')[2]}`]({_local(module.page)})", module.summary) for module in ranked], "Module")
