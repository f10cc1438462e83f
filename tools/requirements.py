"""What pyproject.toml asks for, one requirement a line: `python tools/requirements.py lab` adds the extra `lab`. For what must install the libraries without the course."""
import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str], path: Path = Path("pyproject.toml")) -> list[str]:
    "The requirements of the project of `path` and of these extras. Raises SystemExit for an extra that it does not have."
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    unknown = sorted(set(extras) - set(project["optional-dependencies"]))
    if unknown:
        raise SystemExit(f"{path} has no extra {', '.join(unknown)}; it has {', '.join(project['optional-dependencies'])}")
    return [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print(*requirements(sys.argv[1:]), sep="\n")
