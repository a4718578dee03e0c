"""Who a disk is, so that it stays itself when it moves and is never mistaken for its twin."""

import hashlib
import re

_WWN_PREFIX = re.compile(r"^(0x|naa\.|eui\.|uuid\.|t10\.|scsi-|wwn-)+")
_NOT_IN_LABEL = re.compile(r"[^a-z0-9]+")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_WWN_CHARACTERS_MAX = 48
_DIGEST_CHARACTERS = 20


_NO_SERIAL = frozenset({"(null)", "null", "none", "unknown", "n/a", "not specified"})


def known_serial(text: str) -> str:
    """Return a serial as it stands, or nothing for the words that say there is none.

    User Mode Linux says ``(null)``, cheap bridges say zeros, some hypervisors say words.
    """
    serial = text.strip()
    return "" if serial.lower() in _NO_SERIAL or not serial.strip("0 .-_") else serial


def disk_identity(
    *, stamp: str = "", wwn: str = "", serial: str = "", model: str = "", node: str, path: str
) -> str:
    """Return the disk's cluster-wide identity: a lower-case label of at most 63 characters.

    The best evidence wins: the stamp we once wrote on it; its world-wide name; its serial, which
    makers repeat and which therefore counts only together with model, node and path; and where
    nothing else is known, node and path.
    """
    if _LABEL.fullmatch(stamp):
        return stamp
    if label := _world_wide_label(wwn):
        return label
    if known := known_serial(serial):
        return f"ser-{_digest(known, model.strip(), node, path)}"
    return f"loc-{_digest(node, path)}"


def _world_wide_label(wwn: str) -> str:
    """Return the label of a world-wide name, the same however the kernel or udev spells it."""
    bare = _WWN_PREFIX.sub("", wwn.strip().lower())
    if not bare.strip("0 .-_"):  # empty, or the all-zero name that cheap bridges give
        return ""
    label = _NOT_IN_LABEL.sub("-", bare).strip("-")
    if label == bare and len(label) <= _WWN_CHARACTERS_MAX:
        return f"wwn-{label}"
    return f"wwn-{label[:24].strip('-')}-{_digest(bare)}"


def _digest(*parts: str) -> str:
    # The separator keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:_DIGEST_CHARACTERS]
