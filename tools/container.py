"""The course's image, built without a daemon, as root: python -m tools.container base | build | test | measure | clean

Needs Debian's buildah and mmdebstrap: apt-get install --no-install-recommends buildah crun mmdebstrap. No base image is pulled: `base` makes one from
Debian's packages. What pip's configuration on this machine names (an index, folders of wheels, certificates) serves the build too: the configuration
as a secret, folders mounted read-only, so that nothing of it stays in a layer. Images are kept in a folder of their own (--store), never in the system's.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.files import ROOT

STORE = Path("/var/tmp/fsdl-course-images")
PROGRAMS = ("buildah", "mmdebstrap")
NAIVE = ROOT / "benchmarks" / "container" / "naive.Dockerfile"
CERTIFICATES = Path("/etc/ssl/certs")
# Run by the image's own user: the tests of the first lessons' vocabulary, and one lesson from top to bottom
TESTS = ("cd $HOME && id -u && fsdl-course lessons mine > /dev/null && python -m pytest -q --noconftest -c /dev/null -p no:cacheprovider /tests/test_spec.py 2>&1 | tail -1"
         " && cd mine/00_vocabulary && jupyter execute --timeout=300 01_model.ipynb > /dev/null 2>&1 && echo lesson ran")


class ContainerError(RuntimeError):
    "An image can't be built or run; the message says what is missing, or what the tool said last."


def missing() -> list[str]:
    "The programs that are not here."
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Builder:
    "buildah with a store of its own. driver: overlay where the system allows it, vfs elsewhere, which copies every layer in full."

    def __init__(self, store: Path = STORE, driver: str | None = None):
        if missing():
            raise ContainerError(f"{', '.join(missing())} not found; on Debian and Ubuntu: apt-get install --no-install-recommends buildah crun mmdebstrap")
        self.store = store
        self.driver = driver or ("overlay" if self._works("overlay") else "vfs")

    def _words(self, driver: str) -> list[str]:
        return ["buildah", "--storage-driver", driver, "--root", str(self.store / driver), "--runroot", str(self.store / f"{driver}-run")]

    def _works(self, driver: str) -> bool:
        return subprocess.run([*self._words(driver), "images"], capture_output=True).returncode == 0

    def run(self, *words: str) -> str:
        "What buildah prints. Raises ContainerError with its last lines where it fails."
        done = subprocess.run([*self._words(self.driver), *words], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise ContainerError(f"buildah {words[0]} failed:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        return done.stdout.strip()

    def has(self, tag: str) -> bool:
        return subprocess.run([*self._words(self.driver), "inspect", "--type", "image", tag], capture_output=True).returncode == 0

    def base(self, tag: str = "localhost/base") -> str:
        "A small Debian with Python, by this system's own package sources, if it isn't there yet."
        if not self.has(tag):
            with tempfile.TemporaryDirectory() as scratch:
                root = Path(scratch) / "root.tar"
                sources = [str(path) for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")) if path.exists()][:1]
                words = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm", str(root), *sources]
                done = subprocess.run(words, capture_output=True, text=True)
                if done.returncode:
                    raise ContainerError(f"mmdebstrap failed:\n{done.stderr[-1500:]}")
                made = self.run("from", "scratch")
                self.run("add", "--quiet", made, str(root), "/")
                self.run("commit", "--quiet", made, tag)
                self.run("rm", made)
        return tag

    def build(self, tag: str, file: Path = ROOT / "Dockerfile", context: Path = ROOT, base: str = "localhost/base") -> float:
        "Build an image; the seconds it took. Layers are kept and used again, except with vfs."
        with tempfile.TemporaryDirectory() as scratch:
            secret, folders = Path(scratch) / "pip.conf", _pip_configuration()
            secret.write_text(folders.pop("text"))
            volumes = [word for folder in folders for word in ("--volume", f"{folder}:{folder}:ro")]
            begun = time.perf_counter()
            self.run("bud", "--isolation", "chroot", f"--layers={str(self.driver != 'vfs').lower()}", "--timestamp", "0", "--build-arg", f"BASE={base}",
                     "--build-arg", "TORCH_INDEX=", "--secret", f"id=pip,src={secret}", *volumes, "--tag", tag, "--file", str(file), str(context))
            return time.perf_counter() - begun

    def size(self, tag: str) -> int:
        "Bytes of an image, as unpacked."
        return _bytes(self.run("images", "--format", "{{.Size}}", tag).split("\n")[0])

    def inside(self, tag: str, script: str) -> str:
        "What a shell in a fresh container prints, as the image's own user; tests/ is at /tests."
        made = self.run("from", tag)
        try:
            return self.run("run", "--isolation", "chroot", "--volume", f"{ROOT / 'tests'}:/tests:ro", made, "--", "sh", "-c", script)
        finally:
            self.run("rm", made)


def _pip_configuration() -> dict:
    "{'text': pip's settings as a pip.conf, folder: ...}: what this machine's pip is told, and the folders that it names."
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings = {}
    for line in told.splitlines():
        key, _, value = line.partition("=")
        if key.split(".")[-1] in ("index-url", "extra-index-url", "find-links", "cert", "trusted-host"):
            settings[key.split(".")[-1]] = value.strip("'\"")
    words = [word.removeprefix("file://") for value in settings.values() for word in value.split()]
    folders = {word: "" for word in words if Path(word).is_dir()}
    # .../simple lists files that lie beside it
    folders = {str(Path(one).parent) if Path(one).name == "simple" else one: "" for one in folders}
    if CERTIFICATES.is_dir():
        folders[str(CERTIFICATES)] = ""
    return {"text": "\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items())]) + "\n", **folders}


def _bytes(text: str) -> int:
    "2.15 GB -> 2150000000."
    value, unit = text.split()
    return int(float(value) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])


def measure(builder: Builder) -> dict:
    "Sizes and seconds of the naive image and of ours, new, and again after a line of a lesson has changed."
    base, found = builder.base(), {"driver": builder.driver}
    for name, file in (("naive", NAIVE), ("staged", ROOT / "Dockerfile")):
        with tempfile.TemporaryDirectory() as scratch:
            context = Path(scratch) / "context"
            shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(".git", ".venv*", "node_modules", "__pycache__", "_docs", "runs", "wandb"), symlinks=True)
            new = builder.build(name, file, context, base)
            lesson = context / "nbs" / "00_vocabulary" / "01_model.ipynb"
            lesson.write_text(lesson.read_text(encoding="utf-8").replace("\n", " \n", 1), encoding="utf-8")
            again = builder.build(f"{name}-again", file, context, base)
        found[name] = {"bytes": builder.size(name), "seconds": round(new), "again": round(again)}
        print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["base", "build", "test", "measure", "clean"])
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--driver", choices=["overlay", "vfs"])
    asked = parser.parse_args()
    if asked.what == "clean":
        shutil.rmtree(asked.store, ignore_errors=True)
        return
    try:
        builder = Builder(asked.store, asked.driver)
        base = builder.base()
        if asked.what in ("build", "test"):
            print(f"built in {builder.build('fsdl-course', base=base):.0f} s, {builder.size('fsdl-course') / 1e9:.2f} GB ({builder.driver})")
        if asked.what == "test":
            print(builder.inside("fsdl-course", TESTS))
        if asked.what == "measure":
            print(json.dumps(measure(builder), indent=1))
    except ContainerError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
