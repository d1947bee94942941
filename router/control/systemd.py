"""Talking to systemd, if it started us: readiness, status, watchdog, and sockets that it opened for us (sd_notify(3)).

All of it is a datagram to `$NOTIFY_SOCKET` and a few inherited descriptors. Without systemd nothing here has an effect.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class Notifier:
    """One notification socket. `environ` is the process's."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_interval = int(usec) / 2e6 if usec.isdigit() and ours else 0.0
        """Seconds between two signs of life; 0 = none are wanted."""

    def tell(self, **fields: object) -> None:
        """Send fields such as `READY=1`; whoever does not listen hears nothing."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                pass

    def ready(self, status: str) -> None:
        self.tell(READY=1, STATUS=status)

    def status(self, text: str) -> None:
        self.tell(STATUS=text)

    def alive(self) -> None:
        self.tell(WATCHDOG=1)

    def reloading(self) -> None:
        """To be followed by `ready` (Type=notify-reload)."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str, seconds: float) -> None:
        """The end begins, and may take so long."""
        self.tell(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int((seconds + 10) * 1e6))


def activated_sockets(environ: Mapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Listening sockets that systemd opened, by name: `http` and `https` (`FileDescriptorName=`); unnamed: `http`."""
    count = environ.get("LISTEN_FDS", "0")
    if environ.get("LISTEN_PID", "") not in ("", str(os.getpid())) or not count.isdigit():
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for number in range(int(count)):
        name = names[number] if number < len(names) else ""
        sock = socket.socket(fileno=_FIRST_DESCRIPTOR + number)
        sock.set_inheritable(False)
        found[name if name in ("http", "https") else "http"] = sock
    return found
