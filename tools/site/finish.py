"""What is left to do to the rendered pages (formulas as MathML, no fonts from elsewhere, a way past the menu), and what must not be wrong with them."""
import html
import html.parser
import json
import posixpath
import re
import subprocess
import urllib.parse
from pathlib import Path

from tools.site import DocsError

MATHS = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)


def mathml(formulas: list[tuple[str, bool]]) -> dict[tuple[str, bool], str]:
    "MathML for TeX formulas, each given as (TeX, whether it stands on a line of its own); an unreadable formula is an error."
    if not formulas:
        return {}
    try:
        import pypandoc

        pandoc = pypandoc.get_pandoc_path()
    except (ImportError, OSError):
        raise DocsError("pandoc is needed for formulas: pip install pypandoc_binary (or `make docs`, which installs it)") from None
    wanted = list(dict.fromkeys(formulas))
    version = json.loads(subprocess.run([pandoc, "-f", "markdown", "-t", "json"], input="", capture_output=True, text=True, check=True).stdout)["pandoc-api-version"]
    blocks = [
        {"t": "Div", "c": [[f"formula-{n}", [], []], [{"t": "Plain", "c": [{"t": "Math", "c": [{"t": "DisplayMath" if display else "InlineMath"}, tex]}]}]]}
        for n, (tex, display) in enumerate(wanted)
    ]
    document = json.dumps({"pandoc-api-version": version, "meta": {}, "blocks": blocks})
    done = subprocess.run([pandoc, "-f", "json", "-t", "html", "--mathml", "--wrap=none"], input=document, capture_output=True, text=True, check=True)
    if "Could not convert TeX math" in done.stderr:
        raise DocsError(f"a formula cannot be read:\n{done.stderr.strip()}")
    found = {int(n): body for n, body in re.findall(r'<div id="formula-(\d+)">\s*(<math.*?</math>)\s*</div>', done.stdout, re.S)}
    # The TeX that pandoc keeps inside as an annotation is never shown; without it the page is smaller and has no TeX to index.
    return {formula: re.sub(r"<annotation.*?</annotation>", "", found[n], flags=re.S) for n, formula in enumerate(wanted)}


def finish_maths(site: Path) -> int:
    "Replace every formula on the pages and in the search index by MathML or its plain text; return how many there are."
    texts = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    formulas = [(html.unescape(tex), kind == "display") for text in texts.values() for kind, tex in MATHS.findall(text)]
    made = mathml(formulas)
    for path, text in texts.items():
        new = MATHS.sub(lambda match: f'<span class="math {match[1]}">{made[html.unescape(match[2]), match[1] == "display"]}</span>', text)
        new = re.sub(r"\s*<(?:link|script)\b[^>]*cdn\.jsdelivr\.net/npm/katex@[^>]*>(?:</script>)?", "", new)
        if new != text:
            path.write_text(new, encoding="utf-8")
    index = site / "search.json"
    plain = {tex: re.sub(r"<[^>]+>", "", made[tex, display]) for tex, display in made}
    entries = json.loads(index.read_text(encoding="utf-8"))
    for entry in entries:
        for tex in sorted(plain, key=len, reverse=True):
            if len(tex) > 3 or "\\" in tex:
                entry["text"] = entry["text"].replace(tex, html.unescape(plain[tex]))
    index.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return len(formulas)


def shorten_index(site: Path, letters: int = 600) -> None:
    "Keep of each place on an API page what says what it is, and not all its source: the browser fetches the whole index before it finds anything."
    index = site / "search.json"
    entries = json.loads(index.read_text(encoding="utf-8"))
    for entry in entries:
        if re.match(r"(\./)?source/", entry["href"]):
            entry["text"] = entry["text"][:letters]
    index.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")


def drop_web_fonts(site: Path) -> None:
    "Drop the themes' imports of fonts from another host; the pages use the fonts of the reader's system."
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(r"""@import\s*(?:url\(\s*)?(?:"https?:[^"]*"|'https?:[^']*'|https?:[^)]*)\s*\)?\s*;""", "", text)
        if new != text:
            path.write_text(new, encoding="utf-8")


class _Page(html.parser.HTMLParser):
    "What a page holds that matters here: its ids, its links, and what it makes the browser load."

    LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src", "object": "data", "image": "href", "use": "href"}

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "modulepreload", "shortcut icon"):
            self.loads.append(values.get("href", ""))
        for name in ("src", "xlink:href", "data", "href"):
            if name in values and (self.LOADED.get(tag) == name or (tag in ("image", "use") and name == "xlink:href")):
                self.loads.append(values[name])
        self.loads += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        self.loads += re.findall(r"url\(\s*['\"]?([^'\")]+)", values.get("style", ""))
        self.in_style = tag == "style"

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.loads += re.findall(r"(?:url\(\s*|@import\s+)['\"]?([^'\");]+)", data)

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False


def problems(site: Path) -> list[str]:
    "Broken links between pages, files that pages load but that are not there, and anything that would be fetched from another host."
    found = []
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}

    def where(path: Path) -> str:
        return path.relative_to(site).as_posix()

    def target_of(path: Path, href: str) -> tuple[Path, str]:
        parts = urllib.parse.urlsplit(href)
        place = urllib.parse.unquote(parts.path)
        target = path if not place else site / place.lstrip("/") if place.startswith("/") else path.parent / place
        target = Path(posixpath.normpath(target))
        return (target / "index.html" if target.is_dir() else target), urllib.parse.unquote(parts.fragment)

    for path, page in pages.items():
        for href in page.loads:
            if re.match(r"(https?:)?//", href):
                found.append(f"{where(path)}: loads {href}")
            elif not href.startswith(("data:", "#", "blob:")) and not target_of(path, href)[0].is_file():
                found.append(f"{where(path)}: {href} is not there")
        for href in page.links:
            if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", href):
                continue
            target, fragment = target_of(path, href)
            if not target.is_file():
                found.append(f"{where(path)}: broken link {href}")
            elif fragment and target in pages and fragment not in pages[target].ids:
                found.append(f"{where(path)}: broken link {href} (no such place on that page)")
    for path in sorted(site.rglob("*.css")):
        for href in re.findall(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^'\");]+)", path.read_text(encoding="utf-8")):
            found.append(f"{where(path)}: loads {href}")
    return list(dict.fromkeys(found))


def skip_links(site: Path) -> None:
    "Open every page with a link past the bar and the menu, which shows when the keyboard reaches it."
    link = '<a class="skip-link" href="#quarto-document-content">Skip to content</a>'
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(r"(<body\b[^>]*>)", rf"\1{link}", text, count=1)
        # Without it the link would move the view but not the keyboard
        path.write_text(re.sub(r"(<main\b)(?![^>]*tabindex)", r'\1 tabindex="-1"', new, count=1), encoding="utf-8")


def split_lines(code: str) -> str:
    "Highlighted code with each line in a `span.line` that knows its indentation (`--in`), so that a wrapped line can hang below its own beginning."
    lines, open_tag = [], ""
    for line in code.split("\n"):
        body = open_tag + line
        for tag in re.findall(r"<span[^>]*>|</span>", line):  # highlighting never nests
            open_tag = "" if tag == "</span>" else tag
        indent = len(re.match(r"(?:<span[^>]*>)?( *)", body)[1])
        style = f' style="--in:{indent}"' if indent else ""
        lines.append(f'<span class="line"{style}>{body}{"</span>" if open_tag else ""}</span>')
    return "\n".join(lines)


def hang_lines(site: Path) -> None:
    "Give every line of code on the pages its own span: see `split_lines`."
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(r'(<code class="sourceCode[^"]*">)(.*?)(</code>)', lambda match: match[1] + split_lines(match[2].rstrip("\n")) + match[3], text, flags=re.S)
        path.write_text(new, encoding="utf-8")
