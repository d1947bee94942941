"""`router drain`, `router reload`, `router upgrade`: a signal to the router that runs with a configuration.

Which process that is stands in the lock of its `run_dir`. What becomes of the order is told by its log; a configuration
that is to be reloaded is checked here first, so that mistakes are seen where they are made.
"""

from __future__ import annotations

import os
import select
import signal
import sys

_SIGNALS = {"drain": signal.SIGQUIT, "reload": signal.SIGHUP, "upgrade": signal.SIGUSR2}
"""The same in both signal profiles (docs/operating.md)."""


def order(name: str, config_path: str | None, wait: bool = False) -> int:
    """Give the order; the exit status is 0 when it was given, with `wait` when the router has ended."""
    from router.cli.check import load_or_report
    from router.control.state import running_pid

    loaded = load_or_report(config_path)
    if loaded is None:
        return 1
    run_dir = loaded.config.effective_run_dir
    pid = running_pid(run_dir)
    if pid is None:
        print(f"router {name}: no router runs with run_dir {run_dir}; name its configuration with -c", file=sys.stderr)
        return 1
    try:
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, _SIGNALS[name])
    except ProcessLookupError:
        print(f"router {name}: the router with pid {pid} has just ended", file=sys.stderr)
        return 1
    except PermissionError:
        print(f"router {name}: the router with pid {pid} belongs to another user", file=sys.stderr)
        return 1
    if wait:
        select.select([process], [], [])
    print(f"router {name}: told process {pid}{', which has ended' if wait else '; see its log'}")
    return 0
