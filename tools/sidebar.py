"""Write nbs/sidebar.yml: the contents of nbs/ as a plain Quarto or nbdev project, chapter by chapter. (`make docs` adds the API's pages to its own.)"""
from pathlib import Path

from tools.docs import CHAPTERS
from tools.files import ROOT, notebooks, replace

SIDEBAR = ROOT / "nbs" / "sidebar.yml"
HEADER = "# Written from the names of the notebooks by `make export`\n"


def sidebar_text(paths: list[Path]) -> str:
    "Quarto's `website: sidebar` for notebooks given relative to nbs/, in reading order."
    lines = ["website:", "  sidebar:", "    contents:"]
    chapter = None
    for path in sorted(paths, key=lambda path: (path.name != "index.ipynb", path)):
        if len(path.parts) == 1:
            lines.append(f"      - {path.as_posix()}")
            continue
        if path.parts[0] != chapter:
            chapter = path.parts[0]
            lines += [f"      - section: {CHAPTERS[chapter]}", "        contents:"]
        lines.append(f"          - {path.as_posix()}")
    return HEADER + "\n".join(lines) + "\n"


def write_sidebar() -> bool:
    "Write the sidebar if it is not what the notebooks give; say whether it changed."
    return replace(SIDEBAR, sidebar_text([path.relative_to(ROOT / "nbs") for path in notebooks()]))


if __name__ == "__main__":
    if write_sidebar():
        print(SIDEBAR.relative_to(ROOT))
