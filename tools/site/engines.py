"""What the page "Draw a digit" needs beside its own files: the weights, sample digits, and the engines from the npm registry.

An engine is a package of an exact version, held to the hash in engines.json. npm fetches it as one archive, of which a few files are taken; nothing of it
is run here, and nothing of it is in the repository. What was fetched once is kept in .make/engines, so later builds need no network. Where npm or the
network is missing, the site is built without that engine, and its page says so: the page's own JavaScript needs nothing.
"""
import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tools.site import DocsError

HERE = Path(__file__).parent
ENGINES = json.loads((HERE / "engines.json").read_text(encoding="utf-8"))
PAGE = "02_frameworks/draw"  # the page's folder on the site; its text is the .md beside it
LICENCES = "Apache License 2.0: the same text as the course's LICENSE.\n\n" + """MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions: The above copyright notice
and this permission notice shall be included in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF
ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO
EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def fetched(engine: dict, cache: Path, seconds: int = 300) -> Path:
    "The folder with an engine's files, fetched by npm if it is not in `cache`. Raises DocsError in one line: no npm, no network, or not the known archive."
    digest = hashlib.sha256(json.dumps(engine, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache / f"{engine['key']}-{engine['version']}-{digest}"
    if folder.is_dir():
        return folder
    npm, asked = shutil.which("npm"), f"{engine['package']}@{engine['version']}"
    if npm is None:
        raise DocsError(f"{engine['name']} needs npm, which comes with Node.js")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        try:
            command = [npm, "pack", asked, "--pack-destination", scratch, "--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise DocsError(f"npm did not fetch {asked} within {seconds} seconds") from None
        archive = next(Path(scratch).glob("*.tgz"), None)
        if done.returncode or archive is None:
            raise DocsError(f"npm could not fetch {asked}; is the network up?")
        unpacked = Path(scratch) / "files"
        unpack(archive, engine, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:  # another build was quicker
            if not folder.is_dir():
                raise
    return folder


def unpack(archive: Path, engine: dict, folder: Path) -> None:
    "Write the engine's files from its archive, if that is the known one. Raises DocsError otherwise."
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != engine["integrity"]:
        raise DocsError(f"{engine['package']} {engine['version']} from npm has another hash than tools/site/engines.json: it is not used")
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for inside, name in engine["files"].items():
            (folder / name).write_bytes(tar.extractfile(f"package/{inside}").read())


def samples() -> list[dict]:
    "For each digit one picture that the network has not seen: its 64 whole numbers from 0 to 16."
    from fsdl_course.frameworks.digits import digits

    data = digits("float32")
    first = {int(label): row for row, label in reversed(list(zip(data.test_x, data.test_y)))}
    return [{"digit": digit, "pixels": (first[digit] * 16).astype(int).tolist()} for digit in sorted(first)]


def write_files(folder: Path, cache: Path | None) -> list[str]:
    """Write what the page loads into `folder`: data.js, digits.safetensors, and the engines. Return a line for each engine that is left out.

    cache: where fetched engines are kept; None: no engine is fetched or taken.
    """
    from fsdl_course.frameworks.runtimes import FILE, GRAPH, INK, PENS

    (folder / "engines").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FILE, folder / "digits.safetensors")
    engines, notes = {}, []
    for engine in ENGINES:
        about = {"name": engine["name"], "version": engine["version"]}
        try:
            if cache is None:
                raise DocsError(f"{engine['name']} was not asked for")
            files = fetched(engine, cache)
        except DocsError as error:
            notes.append(f"the page that reads digits goes without {engine['name']}: {error}")
        else:
            for name in engine["files"].values():
                shutil.copyfile(files / name, folder / "engines" / name)
            about["megabytes"] = round(sum((files / name).stat().st_size for name in engine["files"].values()) / 1e6, 1)
        engines[engine["key"]] = about
    if len(notes) < len(ENGINES):
        who = "".join(f"{engine['name']} {engine['version']}, npm package {engine['package']}: {engine['licence']}\n" for engine in ENGINES)
        (folder / "engines" / "LICENCES.txt").write_text(f"{who}\n{LICENCES}", encoding="utf-8")
    # Binary files as text, so that the page also works when it is opened as a file, where a browser fetches nothing
    data = {"weights": base64.b64encode(FILE.read_bytes()).decode(), "graph": base64.b64encode(GRAPH.read_bytes()).decode(), "ink": INK, "pens": PENS, "engines": engines, "samples": samples()}
    (folder / "data.js").write_text(f"window.DIGITS = {json.dumps(data)};\n", encoding="utf-8")
    return notes
