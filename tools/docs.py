"""Build the site: `python -m tools.docs` writes `_docs/`. Only the engines of the page that reads digits come from the npm registry, once; without a network the site goes without them.

Three steps, in tools/site/. *Stage* turns every notebook into the notebook that its page shows (`_proc/`): lessons with exercises cut to
their stubs and solutions, checks and imports folded; source notebooks as the API's pages. *Render* makes HTML of `_proc/` with smalldocs,
a small pure-Python reader of Quarto's own `_quarto.yml`. *Finish* turns formulas into MathML (with pandoc, as Quarto does for
`html-math-method: mathml`, so that no script and no font has to be loaded) and refuses a site with a broken link, a formula that cannot be
read, or anything that a browser would fetch from another machine.

`_proc/` is an ordinary Quarto project as well: `python -m tools.docs --stage` and then `quarto render _proc` give the same site.
"""
import argparse
import functools
import http.server
import shutil
import sys
from pathlib import Path

from tools.site import DocsError
from tools.site.finish import drop_web_fonts, finish_maths, hang_lines, problems, shorten_index, skip_links
from tools.site.project import ROOT, stage_project

NOTEBOOKS = ROOT / "nbs"


def build(out: Path = ROOT / "_docs", staging: Path = ROOT / "_proc", root: Path = ROOT, fetch: bool = True) -> list[str]:
    """Build the site into `out`, by way of `staging`, and return its pages; `out` is replaced only once the whole site is right.

    fetch: with the engines of the page that reads digits, fetched if they are not there yet.
    """
    try:
        from smalldocs.site import build as render
    except ImportError:
        raise DocsError('smalldocs is missing: pip install -e ".[docs]" (or `make docs`, which installs it)') from None

    stage = stage_project(staging, root, fetch)
    for note in stage.notes if fetch else []:
        print(f"note: {note}", file=sys.stderr)
    built = render(staging, quiet=True)
    site = built.out
    # Its formulas are MathML, which `html-math-method` asks of Quarto and `finish_maths` gives here.
    notes = [note for note in built.warnings if "html-math-method" not in note and "broken link" not in note]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    finish_maths(site)
    shorten_index(site)
    drop_web_fonts(site)
    skip_links(site)
    hang_lines(site)
    wrong = problems(site)
    if wrong:
        raise DocsError("the site is not right:\n  " + "\n  ".join(wrong))
    if out.exists():
        if any(out.iterdir()) and not (out / "site_libs").is_dir():
            raise DocsError(f"{out} is not empty and holds no site; give another folder, or empty it yourself")
        shutil.rmtree(out)
    shutil.copytree(site, out)
    return [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.html"))]


def serve(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    "A server for the site on this machine; `port` 0 takes a free one. Call its `serve_forever`."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Quiet, directory=str(folder)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="Build the site into _docs/.")
    parser.add_argument("--stage", action="store_true", help="only write _proc/, for `quarto render _proc`")
    parser.add_argument("--serve", type=int, nargs="?", const=8000, metavar="PORT", help="then show the site at http://localhost:PORT (8000)")
    options = parser.parse_args()
    try:
        if options.stage:
            for note in stage_project(ROOT / "_proc").notes:
                print(f"note: {note}", file=sys.stderr)
            print("_proc/ is ready: quarto render _proc")
            return 0
        pages = build()
    except DocsError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    print(f"_docs/ holds {len(pages)} pages. To read them: python -m tools.docs --serve")
    if options.serve:
        with serve(ROOT / "_docs", options.serve) as server:
            print(f"http://localhost:{options.serve} (stop with Ctrl+C)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
