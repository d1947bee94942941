"""`python -m tests.fuzz [SECONDS] [SEED]`: strange messages through the data plane, and a strict reader behind it."""

from __future__ import annotations

import sys
import time

from tests.fuzz.oracle import Finding
from tests.fuzz.run import Tally, run
from tests.fuzz.run_h2 import TallyH2, run_h2


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    tally, tally_h2 = Tally(), TallyH2()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            run(seed, 500, tally)
            run_h2(seed, 250, tally_h2)
            seed += 1
    except Finding as finding:
        print(finding, file=sys.stderr)
        return 1
    print(tally, tally_h2, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
