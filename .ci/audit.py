"""Look the pinned dependencies up among known vulnerabilities; say so where that cannot be done."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = (
    "-r", "constraints.txt", "--no-deps", "--disable-pip", "--progress-spinner=off", "--timeout=10",
    "--format=json",
)  # fmt: skip


def main() -> int:
    words = [sys.executable, "-m", "pip_audit", *COMMAND]
    try:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        found = []
    known = [d for d in found if "skip_reason" not in d]
    if not known:
        print("Dependencies were NOT audited: the data on vulnerabilities cannot be reached.")
        return 0
    wrong = [d for d in known if d["vulns"]]
    for dependency in wrong:
        names = ", ".join(v["id"] for v in dependency["vulns"])
        print(f"{dependency['name']} {dependency['version']}: {names}")
    print(f"{len(known)} of {len(found)} dependencies audited, {len(wrong)} with known faults.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
