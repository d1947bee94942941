"""What can keep control from starting, and why a network fails, told so that the operator can mend it."""

from __future__ import annotations

import os
import re

_CONNECT = re.compile(r"\[Errno (\d+)\] Connect call failed")


class StartError(Exception):
    """The router can't start; the text names what is wrong, the key or path, and the remedy."""


def reason(error: BaseException) -> str:
    """Why a connection failed, in the system's words: asyncio tells of numbers and tuples, once for each address."""
    text = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    if numbers := dict.fromkeys(_CONNECT.findall(text)):
        return ", ".join(os.strerror(int(number)) for number in numbers)
    return (error.strerror if isinstance(error, OSError) else None) or text
