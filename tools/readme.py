"""Write README.md from nbs/index.ipynb: its text, its code and what the code printed, with links that are right on a repository's front page."""
import posixpath
import re

from fsdl_course.handout import code, directives, read_notebook
from tools.files import ROOT, replace

INDEX = ROOT / "nbs" / "index.ipynb"
README = ROOT / "README.md"
HEADER = "<!-- Written from nbs/index.ipynb by `make export`: edit that notebook, not this file. -->"
_TARGETS = re.compile(r"""(\]\(|\b(?:src|srcset|href)=["'])([^)\s"'#][^)\s"']*)""")


def move_links(text: str) -> str:
    "The markdown with links and pictures that start at nbs/ made to start at the repository's root; code stays as it is."

    def move(match: re.Match) -> str:
        target = match[2]
        if re.match(r"[a-z][a-z0-9+.-]*:|/", target, re.I):
            return match[0]
        return match[1] + posixpath.normpath(posixpath.join("nbs", target))

    pieces = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    return "".join(piece if index % 2 else _TARGETS.sub(move, piece) for index, piece in enumerate(pieces))


def output_text(output: dict) -> str:
    "What one output of a cell adds to the README: markdown as it is, text as a block; pictures and widgets have no place there."
    data = output.get("data", {})
    if "text/markdown" in data:
        return move_links("".join(data["text/markdown"]))
    text = "".join(output.get("text", "") or data.get("text/plain", "")).rstrip()
    if not text or output.get("output_type") == "error" or output.get("name") == "stderr":
        return ""
    if "text/html" in data and re.fullmatch(r"<.*>|Picture\(.*\)", text, re.S):  # the text says nothing
        return ""
    return f"```text\n{text}\n```"


def readme_text(notebook: dict) -> str:
    "The README that a notebook gives."
    parts = [HEADER]
    for cell in notebook["cells"]:
        marks = directives(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(move_links(cell["source"].strip()))
        elif cell["cell_type"] == "code" and "hide" not in marks and marks.get("include") != "false":
            shown = code(cell["source"]).strip()
            if shown and marks.get("echo") != "false":
                parts.append(f"```python\n{shown}\n```")
            parts += [output_text(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_readme() -> bool:
    "Write README.md if it is not what the index notebook gives; say whether it changed."
    return INDEX.exists() and replace(README, readme_text(read_notebook(INDEX)))


if __name__ == "__main__":
    if write_readme():
        print(README.relative_to(ROOT))
