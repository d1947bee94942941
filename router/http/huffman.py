"""Reading the Huffman code of HPACK (RFC 7541 §5.2, appendix B). No I/O.

The code is canonical: codes of one length follow each other in the order of their symbols, so the lengths are all that
has to be known. A string is read a byte at a time, by a table of steps: where one is in the tree of codes and the byte
that comes give what was read and where one is then. Steps are worked out when first needed: few of the 65,536 ever are.
"""

from __future__ import annotations

_END = 256
"""The symbol that may only appear as padding, in part."""
_SYMBOLS: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\0$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: bytes.fromhex("80 82 83 a2 b8 c2 e0 e2"),
    21: bytes.fromhex("99 a1 a7 ac b0 b1 b3 d1 d8 d9 e3 e5 e6"),
    22: bytes.fromhex("81 84 85 86 88 92 9a 9c a0 a3 a4 a9 aa ad b2 b5 b9 ba bb bd be c4 c6 e4 e8 e9"),
    23: bytes.fromhex("01 87 89 8a 8b 8c 8d 8f 93 95 96 97 98 9b 9d 9e a5 a6 a8 ae af b4 b6 b7 bc bf c5 e7 ef"),
    24: bytes.fromhex("09 8e 90 91 94 9f ab ce d7 e1 ec ed"),
    25: bytes.fromhex("c7 cf ea eb"),
    26: bytes.fromhex("c0 c1 c8 c9 ca cd d2 d5 da db ee f0 f2 f3 ff"),
    27: bytes.fromhex("cb cc d3 d4 d6 dd de df f1 f4 f5 f6 f7 f8 fa fb fc fd fe"),
    28: bytes.fromhex("02 03 04 05 06 07 08 0b 0c 0e 0f 10 11 12 13 14 15 17 18 19 1a 1b 1c 1d 1e 1f 7f dc f9"),
    30: b"\n\r\x16",  # and, last of all, the end
}
"""Symbols by the length of their code in bits."""


def codes() -> list[tuple[int, int]]:
    """Code and its length in bits, by symbol; the end's is the last (appendix B)."""
    found = [(0, 0)] * (_END + 1)
    code = before = 0
    for length, symbols in _SYMBOLS.items():
        code <<= length - before
        before = length
        for symbol in symbols if length < max(_SYMBOLS) else [*symbols, _END]:
            found[symbol] = code, length
            code += 1
    return found


def _tree() -> list[list[int]]:
    """Nodes, each two branches: the number of another node, or, below zero, `~symbol`. Node 0 is the root."""
    nodes = [[0, 0]]
    for symbol, (code, length) in enumerate(codes()):
        at = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[at][bit]:
                nodes.append([0, 0])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][code & 1] = ~symbol
    return nodes


_NODES = _tree()


def _paddings() -> frozenset[int]:
    """Nodes at which a string may end: up to seven bits of ones behind the last symbol, as steps name them."""
    at, found = 0, {0}
    for _ in range(7):
        at = _NODES[at][1]
        found.add(at << 8)
    return frozenset(found)


_PADDINGS = _paddings()
_MOST_STEPS = 16384
"""Steps that are remembered: more than anyone needs who does not mean to fill our memory."""


class _Steps(dict[int, tuple[int, bytes]]):
    """`node << 8 | byte` → the node after it, as `node << 8`, and the symbols that were read."""

    def __missing__(self, key: int) -> tuple[int, bytes]:
        at, symbols = key >> 8, bytearray()
        for place in range(7, -1, -1):
            at = _NODES[at][key >> place & 1]
            if at < 0:
                if at == ~_END:
                    raise ValueError("the end of a Huffman code within a string")
                symbols.append(~at)
                at = 0
        step = at << 8, bytes(symbols)
        if len(self) < _MOST_STEPS:
            self[key] = step
        return step


_steps = _Steps()


def decoded(coded: bytes) -> bytes:
    """The string that is coded so. Raises ValueError."""
    at = 0
    symbols = []
    for byte in coded:
        at, read = _steps[at | byte]
        symbols.append(read)
    if at not in _PADDINGS:
        raise ValueError("a Huffman code that breaks off, or ends in something else than its padding")
    return b"".join(symbols)
