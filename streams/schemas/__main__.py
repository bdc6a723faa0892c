"""Write the published documents: python -m streams.schemas [--check] [FOLDER]

FOLDER is docs/schemas if none is given. --check writes nothing: exit status 1 names the files that are not up to date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from streams.schemas.documents import documents

FOLDER = Path("docs/schemas")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m streams.schemas", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    made = documents()
    old = [name for name, content in made.items() if _content(options.folder / name) != content]
    if options.check:
        for name in old:
            sys.stderr.write(f"{options.folder / name} is not what the code says. Run: python -m streams.schemas\n")
        return 1 if old else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in old:
        (options.folder / name).write_bytes(made[name])
        sys.stdout.write(f"{options.folder / name}\n")
    return 0


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
