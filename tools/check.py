"""Fail if anything that is written from the notebooks differs from what they give, naming the files. Changes nothing."""
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.files import ROOT

# What generating reads or writes
PARTS = ("nbs", "fsdl_course", "tools", "tests", "pyproject.toml", "README.md", "settings.ini", "_quarto.yml")
PASSED_OVER = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "node_modules", "_proc", ".*")


def copy_parts(root: Path, to: Path) -> None:
    "Copy what generating reads or writes."
    for name in PARTS:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, ignore=PASSED_OVER, symlinks=True)
        elif (root / name).exists():
            shutil.copy2(root / name, to / name)


def files(root: Path) -> set[Path]:
    "The files below `root` that are compared."
    found = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path.parts and not any(part.startswith(".") for part in path.parts)}


def differences(root: Path = ROOT) -> list[str]:
    "One line for each file that is missing, left over or different. Raises `CalledProcessError` if generating fails."
    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "before", Path(scratch) / "after"
        for folder in (before, after):
            folder.mkdir()
        copy_parts(root, before)
        shutil.copytree(before, after, symlinks=True, dirs_exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(after), "PYTHONDONTWRITEBYTECODE": "1"}
        made = subprocess.run([sys.executable, "-m", "tools.generate"], cwd=after, env=environment, capture_output=True, text=True)
        if made.returncode:
            return [line for line in (made.stderr or made.stdout).strip().splitlines()][-12:] or ["tools.generate failed"]
        old, new = files(before), files(after)
        lines = [f"{path} is not there; the notebooks give it" for path in sorted(new - old)]
        lines += [f"{path} is given by no notebook any more" for path in sorted(old - new)]
        for path in sorted(old & new):
            if not filecmp.cmp(before / path, after / path, shallow=False):
                lines.append(f"{path} is not clean" if path.suffix == ".ipynb" else f"{path} is not what the notebooks give")
        return lines


if __name__ == "__main__":
    wrong = differences()
    if wrong:
        print("\n".join(wrong), "\n`make export` writes it all anew.", file=sys.stderr)
        sys.exit(1)
    print("Package, tests, README and sidebar are what the notebooks give.")
