"""Write what nbdev's and Quarto's own commands read in nbs/: sidebar.yml, the menu by chapter and package, and nbdev.yml, which is nbdev's own.

pyproject.toml says `custom_sidebar = true`, so nbdev leaves sidebar.yml as it is. (`make docs` adds the page of all modules to its own menu.)
"""
from pathlib import Path

import yaml
from nbdev.quarto import refresh_quarto_yml

from tools.files import ROOT, replace
from tools.site.project import menu, notebooks, written_pages

SIDEBAR = ROOT / "nbs" / "sidebar.yml"
HEADER = "# Written from the names of the notebooks by `make export`\n"


def sidebar_text(paths: list[Path]) -> str:
    "Quarto's `website: sidebar` for notebooks given relative to nbs/, in reading order."
    return HEADER + yaml.safe_dump(menu([path.as_posix() for path in paths], overview=None), sort_keys=False, allow_unicode=True)


def write_sidebar() -> bool:
    "Write the menu if it is not what the notebooks give, and have nbdev write its own file; say whether the menu changed."
    refresh_quarto_yml()
    return replace(SIDEBAR, sidebar_text([path.relative_to(ROOT / "nbs") for path in [*notebooks(ROOT / "nbs"), *written_pages(ROOT / "nbs")]]))


if __name__ == "__main__":
    if write_sidebar():
        print(SIDEBAR.relative_to(ROOT))
