"""Write everything that comes from the notebooks: nbdev cleans them and exports the package; then its tests, README.md, settings.ini and the site's sidebar."""
import importlib
import sys
from pathlib import Path

from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbdev_export

from tools.files import ROOT, SOURCE, alone, generated_modules, notebooks, replace

PACKAGE = ROOT / "fsdl_course"


def clean_notebooks() -> list[Path]:
    "Strip what a notebook should not keep (execution counts, stray metadata); return those that changed."
    changed = []
    for path in notebooks():
        before = path.read_text(encoding="utf-8")
        nbdev_clean.__wrapped__(str(path))
        if path.read_text(encoding="utf-8") != before:
            changed.append(path)
    return changed


def module_of(notebook: Path) -> Path:
    "The module that a source notebook makes: nbs/source/parallel/index.ipynb -> fsdl_course/parallel/__init__.py."
    path = PACKAGE / notebook.relative_to(SOURCE).with_suffix(".py")
    return path.with_name("__init__.py") if path.stem == "index" else path


def export_package() -> list[Path]:
    "Run nbdev's export, remove modules that no notebook makes any more, and return what is new, changed or gone."
    before = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    with alone():
        nbdev_export.__wrapped__()
        made = {module_of(path) for path in notebooks() if path.is_relative_to(SOURCE)}
        for path in generated_modules(PACKAGE):
            if path not in made and path.name != "_modidx.py":
                path.unlink()
    after = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    return sorted(path for path in before | after if before.get(path) != after.get(path))


def generate() -> list[Path]:
    "Write all of it and return the files that changed."
    changed = clean_notebooks() + export_package()
    # The steps below read notebooks with the package's own code, which has only now become what the notebooks say
    for name in [name for name in sys.modules if name.split(".")[0] == "fsdl_course"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    from tools.readme import README, write_readme
    from tools.sidebar import SIDEBAR, write_sidebar
    from tools.tests import write_tests

    changed += write_tests()
    changed += [path for path, write in ((README, write_readme), (SIDEBAR, write_sidebar)) if write()]
    from fsdl_course.settings import settings_text

    if replace(ROOT / "settings.ini", settings_text()):
        changed.append(ROOT / "settings.ini")
    return changed




if __name__ == "__main__":
    files = generate()
    for path in files:
        print(path.relative_to(ROOT))
    if not files:
        print("Everything is as the notebooks say.")
