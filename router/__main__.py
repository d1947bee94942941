"""`python -m router`, and the console script `router`.

Nearly every start is `router run -c FILE`, by a supervisor, and somebody waits for it. The machinery of the command
line takes an eighth of a second of it to load, so these words, and no others, are understood here without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from router.cli.streams import forgive_names


def main() -> None:
    """The console script."""
    path = plain_run(sys.argv[1:])
    if path is None:
        from router.cli.main import main as command_line

        command_line()
    else:
        forgive_names()
        sys.exit(_run(path))


def plain_run(arguments: Sequence[str]) -> str | None:
    """The configuration file of `run -c FILE` and `-c FILE`, None if anything else is asked for."""
    match arguments:
        case ["run", "-c" | "--config", path] | ["-c" | "--config", path]:
            return path
        case _:
            return None


def _run(path: str) -> int:
    try:
        from router.cli.run import run

        return run(path, {"port": None, "inet": None})
    except KeyboardInterrupt:
        sys.stderr.write("Aborted!\n")  # as the command line says it
        return 1


if __name__ == "__main__":
    main()
