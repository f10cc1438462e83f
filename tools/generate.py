"""Write everything that comes from the notebooks: the package, its tests, README.md, the site's sidebar; and clean the notebooks themselves."""
import importlib
import sys

from nbdev.clean import nbdev_clean

from tools.export import ROOT, export_package, notebooks, replace


def clean_notebooks() -> list:
    "Strip what a notebook should not keep (execution counts, stray metadata); return those that changed."
    changed = []
    for path in notebooks():
        before = path.read_text(encoding="utf-8")
        nbdev_clean.__wrapped__(str(path))
        if path.read_text(encoding="utf-8") != before:
            changed.append(path)
    return changed


def generate() -> list:
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
