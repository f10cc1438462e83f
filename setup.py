"""What pyproject.toml can't say: the lessons travel inside the package, copied from nbs/ (but nbs/source) when it is built."""
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SUFFIXES = {".ipynb", ".svg", ".png", ".jpg", ".gif", ".webp"}


def lesson_files() -> list[Path]:
    "The lessons and their pictures, without hidden and unfinished ones. The notebooks that make the package stay in the repository."
    found = [path for path in (ROOT / "nbs").rglob("*") if path.suffix in SUFFIXES and not path.is_relative_to(ROOT / "nbs" / "source")]
    return [path for path in found if not any(part.startswith(("_", ".")) for part in path.relative_to(ROOT / "nbs").parts)]


class BuildWithLessons(build_py):
    "Adds nbs/ to the built package as fsdl_course/lessons. A checkout that is installed with -e keeps using nbs/ itself."

    def _lessons(self) -> dict[Path, Path]:
        "Where each file of the lessons comes from and goes to."
        if self.editable_mode:
            return {}
        target = Path(self.build_lib) / "fsdl_course" / "lessons"
        return {path: target / path.relative_to(ROOT / "nbs") for path in lesson_files()}

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / "fsdl_course" / "lessons", ignore_errors=True)
        for source, target in self._lessons().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [str(target) for target in self._lessons().values()]


setup(cmdclass={"build_py": BuildWithLessons})
