"""What can keep control from starting, told so that the operator can mend it."""


class StartError(Exception):
    """The router can't start; the text names what is wrong, the key or path, and the remedy."""
