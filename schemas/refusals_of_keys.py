"""What the codes about encryption and keys mean, and what to do about each."""

OF_KEYS: dict[str, tuple[str, str]] = {
    "HW-V016": (
        "The volume is not encrypted, so it has no key that could be changed.",
        "Make a volume with --key-ref REFERENCE and copy what is needed: docs/encryption.md.",
    ),
    "HW-V017": (
        "The node cannot encrypt: it has no cryptsetup, or its kernel no dm-crypt.",
        "Install cryptsetup there and restart its worker, or choose another node.",
    ),
    "HW-V018": (
        "The encryption header of the volume is missing or damaged; nothing was written to it.",
        "Put a copy of the header back by hand, or restore a backup: docs/encryption.md.",
    ),
    "HW-V019": (
        "The encryption header of the volume has no room for one more key.",
        "Remove keys that were put there by hand: cryptsetup luksDump, luksKillSlot on the node.",
    ),
    "HW-K001": (
        "That is no reference to a key; a key itself is never said to hwbus.",
        "Write file:NAME, env:NAME or vault:PATH#FIELD; docs/encryption.md tells what each means.",
    ),
    "HW-K002": (
        "The node's key source has no key under that reference; nothing was changed.",
        "Put the key there on the node that the volume is on, then try again.",
    ),
    "HW-K003": (
        "The node's worker was not told where keys of that kind are.",
        "Start it with --vault ADDRESS --vault-token FILE, or use another kind of reference.",
    ),
    "HW-K004": (
        "The node's key source is silent, or sealed; it is asked again until the deadline.",
        "Look after the key source, and whether the node reaches it.",
    ),
    "HW-K005": (
        "The node's key source does not give the key to its worker; nothing was changed.",
        "Let the worker's user, or its token, read what the reference names, then try again.",
    ),
    "HW-K006": (
        "What is found under the reference is no key: 32 to 4096 bytes of randomness.",
        "Make one on the node: head -c 64 /dev/urandom > FILE, or openssl rand -base64 48.",
    ),
    "HW-K007": (
        "The key under the reference does not open the volume; nothing was changed.",
        "Put back the key of before; hwbus audit --object volume/NAME tells when it was changed.",
    ),
    "HW-K008": (
        "The new key is the one that opens the volume already.",
        "Put another key under another reference, and name that.",
    ),
    "HW-K009": (
        "Others than its owner may read or change the key file, or what it leads to.",
        "Let root alone: chown root FILE; chmod 600 FILE. If somebody may have read it, rekey.",
    ),
}
