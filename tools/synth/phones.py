"""Inventory of 40 phones (ARPAbet in lower case) and silence, and the mapping of the synthesisers' phones to it."""

from __future__ import annotations

VOWELS = ("aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw")
CONSONANTS = (
    "b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh", "t", "th", "v", "w",
    "y", "z", "zh",
)  # fmt: skip
SILENCE = "sil"
PHONES = (SILENCE, *VOWELS, *CONSONANTS)
"""All phones. A phone's number is its index."""

_FLITE = {"pau": SILENCE, "axr": "er", "ax-h": "ax", "ix": "ih", "el": "l", "em": "m", "en": "n", "dx": "t", "nx": "n",
          "hv": "hh"}  # fmt: skip

_ESPEAK = {
    # vowels
    "@": "ax", "@2": "ax", "@5": "ax", "@L": "l", "@-": "ax", "IR": "er",
    "3": "er", "3:": "er", "0": "aa", "0#": "aa", "02": "aa", "A": "aa",
    "A:": "aa", "A@": "aa", "A#": "aa", "a": "ae", "a#": "ax", "a2": "ax", "aa": "ae", "V": "ah", "VR": "ah", "E": "eh",
    "E2": "eh", "E#": "eh", "e": "eh", "e@": "eh", "e:": "eh", "e2": "eh", "I": "ih", "I2": "ih", "I#": "ih", "i": "iy",
    "i:": "iy", "i2": "iy", "i@": "ih", "i@3": "ih", "I3": "ih", "i:2": "iy", "O": "ao", "O2": "ao", "O:": "ao",
    "O@": "ao", "o@": "ao", "o": "ow", "o:": "ow", "oU": "ow", "o2": "ow", "oU#": "ow", "OI": "oy", "o:2": "ao",
    "U": "uh", "U@": "uh", "u": "uw", "u:": "uw", "u2": "uw", "eI": "ey", "e:I": "ey", "aI": "ay", "aI@": "ay",
    "aI2": "ay", "aI3": "ay", "aU": "aw", "aU@": "aw", "aU2": "aw", "O:2": "ao", "E:": "eh", "a:": "aa", "U2": "uh",
    # consonants
    "b": "b", "d": "d", "d#": "d", "d2": "d", "D": "dh", "D2": "dh", "dZ": "jh", "f": "f", "g": "g", "h": "hh",
    "j": "y", "k": "k", "k2": "k", "l": "l", "l#": "l", "l2": "l", "l/": "l", "L": "l", "L^": "l", "m": "m", "m-": "m",
    "n": "n", "n-": "n", "t[": "t", "d[": "d",
    "n2": "n", "N": "ng", "p": "p", "r": "r", "r-": "r", "r/": "r", "r2": "r", "R": "r",
    "R2": "r", "s": "s", "S": "sh", "t": "t", "t#": "t", "t2": "t", "tS": "ch", "T": "th", "v": "v", "v#": "v",
    "w": "w", "w#": "w", "w2": "w", "hw": "w", "x": "k", "z": "z", "z#": "z", "z/": "z", "Z": "zh", "?": "t",
    "*": "t", "**": "t", "**r": "r",
}  # fmt: skip


def from_flite(name: str) -> str:
    """Return the phone of a segment of flite.

    Raises:
      KeyError: there is none.
    """
    phone = _FLITE.get(name, name)
    if phone not in _KNOWN:
        raise KeyError(f"flite's phone {name!r} is not in the inventory: add it to tools/synth/phones.py")
    return phone


def from_espeak(name: str) -> str | None:
    """Return the phone of a mnemonic of espeak-ng; None for a mark without sound (`;`)."""
    if name.startswith("_"):
        return SILENCE
    if name in (";", "|", "", "'", ",", "%", "=", ":", "||"):
        return None
    try:
        return _ESPEAK[name]
    except KeyError:
        raise KeyError(f"espeak-ng's phone {name!r} is not in the inventory: add it to tools/synth/phones.py") from None


_KNOWN = frozenset(PHONES)
