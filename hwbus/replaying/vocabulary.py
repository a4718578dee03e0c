"""Which field holds names of what, and which words are those of hwbus itself and no names."""

import re
from collections.abc import Iterator

from schemas.account_view import AccountLevel
from schemas.node import Drift
from schemas.operation import OperationKind, Outcome
from schemas.trail import AUDIT_TRAIL
from schemas.usage_view import UsageLevel
from schemas.words import KINDS

PLAIN_ACTORS = frozenset({"", "hwbus", "anonymous"})
MACHINES = ("worker:", "policy:", "schedule:", "qos:")
FIELDS = {
    **dict.fromkeys(("actor", "by", "wanted_by", "approved_by"), "person"),
    **dict.fromkeys(("node", "nodes", "from_node", "last_node", "made_on", "moved_from"), "node"),
    **dict.fromkeys(("also_on", "home", "loses", "migrating", "migrating_from"), "node"),
    **dict.fromkeys(("followed", "followers", "leader", "outdated", "peer", "peers"), "node"),
    **dict.fromkeys(("coming", "others", "owner"), "node"),
    **dict.fromkeys(("adding", "disk", "disks", "dropping", "keeping", "leaving"), "disk"),
    **{name: name for name in ("address", "cluster", "serial", "wwn", "zone")},
    **dict.fromkeys(("key", "public_key"), "key"),
    "namespace": "user",
}
"""The kind of name that a field of this name holds, whatever it is a field of."""

OBJECT_FIELDS = {
    **dict.fromkeys(("left", "legs", "snapshot_of", "source", "stay"), "volume"),
    **dict.fromkeys(("kept", "last_snapshot", "locked_for", "parent_snapshot"), "snapshot"),
    **dict.fromkeys(("together", "twin_of", "twins", "gone_twins"), "snapshot"),
    "limiting_qos": "qos",
    "made_in": "pool",
    "joining": "group",
}
"""Likewise what people have made, beside fields that are called as what they hold."""

KEY_FIELDS = {
    **dict.fromkeys(("counted", "seen", "sightings"), "node"),
    **dict.fromkeys(("members", "targets"), "volume"),
    **dict.fromkeys(("acts", "alarms"), "object"),
}
"""The field that holds what the keys are of one that has values by them."""

# Views make keys and texts of these, in which another word would be another row.
_TOLD = (
    *(*KINDS, *AccountLevel, *UsageLevel, *OperationKind, *Outcome, *Drift, AUDIT_TRAIL),
    *("hwbus", "anonymous", "worker", "command", "event", "health", "loan", "lv", "message"),
    *("now", "past", "refused", "scan", "backups", *(f"{kind}s" for kind in KINDS)),
)
WORDS = frozenset({*map(str, _TOLD), *(part for told in _TOLD for part in told.split("-"))})
"""What has a meaning for hwbus: where somebody is called so it tells nothing of him, and stays."""

_ROOTS = frozenset(
    {"home", "mnt", "media", "srv", "var", "lib", "opt", "root", "tmp", "usr", "local", "run"}
)
_URL = re.compile(r"s3://(?P<bucket>[^/]+)(?P<prefix>/.*)?")
_ENDPOINT = re.compile(r"https?://(?P<host>\[[^]]*\]|[^:/]+)(:\d+)?")
TOKEN = re.compile(r"[^\W_]+(?:[-._:@+=]+[^\W_]+)*")


def parts(field: str, text: str) -> Iterator[tuple[str, str]]:
    """Give the names, each behind its kind, that *text* is made of if a field is called so."""
    if field == "consumer":
        yield from (("user", part) for part in text.split("/")[1:])
    elif field in {"url", "place"}:
        yield from (("bucket", name) for name in _places(text))
    elif field == "endpoint" and (endpoint := _ENDPOINT.fullmatch(text)):
        yield "host", endpoint["host"].strip("[]")


def _places(text: str) -> Iterator[str]:
    """Give the names in where something lies: bucket and prefix, or the folders of a path."""
    url = _URL.fullmatch(text)
    folders = [url["bucket"], *(url["prefix"] or "").split("/")] if url else text.split("/")
    for folder in folders:
        if url or folder not in _ROOTS:
            # What begins or ends with a sign is looked for without it: as a word, as all others.
            yield from TOKEN.findall(folder)
