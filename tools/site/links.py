"""Links of prose: names of the package to their places on the API pages, and files of the repository to pages that show them."""
import os
import re
import urllib.parse
from collections.abc import Callable, Container, Mapping
from pathlib import Path

NO_NAMES = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|^#[^\n]*$|^[ \t]*<[^\n]*$|\[[^\]]*\]\([^)]*\)|\$\$.*?\$\$|\$[^$\n]+\$)", re.M | re.S)
LINK = re.compile(r"(?<!\\)(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)((?:\s+\"[^\"]*\")?)\)")
CODE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|`[^`\n]+`(?!\]))", re.M | re.S)


def link_names(text: str, symbols: Mapping[str, str], prefix: str, sure: Container[str] = ()) -> str:
    """Link each name of the package that prose sets in backticks to its place on an API page, the first time it stands in a cell.

    symbols: {name: place}. prefix: leads from the page to the site's root. A name that is an ordinary word (`seconds`) may mean anything: it is
    linked where it is called (`seconds()`), where it is one of `sure`, or where the text links to the page of its module.
    """
    seen: set[str] = set()

    def link(match: re.Match) -> str:
        name, called = match[1], match[2]
        place = symbols.get(name)
        if not place or name in seen:
            return match[0]
        if re.fullmatch(r"[a-z]+", name) and not called and name not in sure and f"{place.partition('#')[0].removeprefix('source/')})" not in text:
            return match[0]
        seen.add(name)
        return f"[{match[0]}]({prefix}{place})"

    name = re.compile(r"(?<![`\w\[])`([A-Za-z_][\w.]*)(\(\))?`(?![`\w\]])")
    parts = NO_NAMES.split(text)
    return "".join(part if n % 2 else name.sub(link, part) for n, part in enumerate(parts))


def repository_links(text: str, here: Path, root: Path, page_of: Callable[[str], str]) -> str:
    """Point links that leave the notebooks' folder (`../LICENSE`) to pages that show those files; a link to a folder becomes its words.

    here: the notebook, in `root`/nbs. page_of: gives the page, relative to the site's root, that shows a file of the repository.
    """
    folder, notebooks = here.parent, root / "nbs"

    def link(match: re.Match) -> str:
        bang, label, href, title = match.groups()
        path, hash_, fragment = href.partition("#")
        if not path or re.match(r"[a-z][a-z0-9+.-]*:|//|/", path):
            return match[0]
        target = Path(os.path.normpath(folder / urllib.parse.unquote(path)))
        if target.is_relative_to(root) and target.is_dir() and not bang:
            return label
        if target.is_relative_to(notebooks) or not target.is_relative_to(root) or not target.is_file():
            return match[0]
        up = "../" * len(here.relative_to(notebooks).parent.parts)
        return f"{bang}[{label}]({up}{page_of(target.relative_to(root).as_posix())}{hash_}{fragment}{title})"

    return "".join(part if n % 2 else LINK.sub(link, part) for n, part in enumerate(CODE.split(text)))
