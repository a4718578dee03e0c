"""What was taken and for how long, worked out from the raw log by brute force.

Nothing of the projectors is used, and nothing is carried on: after every message everything that
counts is added up afresh from what there is, and multiplied by how long it was so.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from hwbus.ports import Stored

Key = tuple[str, str]
Counted = dict[tuple[str, str, str], int]
_HEADER = 16 << 20


class Reckoner:
    """Reads messages one after another; says what stands where when it is asked."""

    def __init__(self) -> None:
        self.pools: dict[Key, dict[str, Any]] = {}
        self.claims: dict[Key, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.volumes: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, str] = {}
        self.backups: dict[Key, dict[str, Any]] = {}
        self.targets: dict[str, set[str]] = {}
        self.ended: Counter[tuple[str, str, str]] = Counter()

    def read(self, stored: Stored) -> None:
        """Take one message in; what is no commit says nothing."""
        try:
            events = json.loads(stored.data)["events"]
        except (ValueError, KeyError, TypeError):
            return
        for event in events:
            kind, word, _ = event["type"].split(".")
            getattr(self, f"_{kind}", lambda *_: None)(word, event)

    def _pool(self, word: str, said: dict[str, Any]) -> None:
        where = (said["node"], said["pool"])
        match word:
            case "forming-began":
                self.pools[where] = {"thin": 0}
                self.claims[where] = {}
            case "removed" | "forgotten":
                self.pools.pop(where, None)
            case "room-reserved" | "room-settled" if where in self.pools:
                claim = self.claims[where].setdefault(said["claim"], {"settled": 0, "reserved": 0})
                claim["thin"] = said.get("thin", False)
                claim["reserved"] = said["size_bytes"] if word == "room-reserved" else 0
                claim["settled"] = (
                    claim["settled"] if word == "room-reserved" else said["size_bytes"]
                )
            case "room-unreserved" if said["claim"] in self.claims[where]:
                self.claims[where][said["claim"]]["reserved"] = 0
            case "room-released":
                self.claims[where].pop(said["claim"], None)
            case _ if "facts" in said and where in self.pools:
                facts = said["facts"]
                thin = facts.get("thin_bytes", 0) + facts.get("thin_overhead_bytes", 0)
                self.pools[where]["thin"] = thin
            case _:
                return

    def _volume(self, word: str, said: dict[str, Any]) -> None:
        name = said["volume"]
        if word == "provisioning-began":
            self.volumes[name] = {
                "uid": said["uid"],
                "asked": said["size_bytes"],
                "header": _HEADER if said.get("key_ref") else 0,
                "shown": False,
                "held": False,
                "namespace": "",
                "labels": dict(said.get("labels", {})),
                "disk": None,
            }
        volume = self.volumes.get(name)
        if word == "io-counted":
            self._moved(name, said)
        if volume is not None:
            self._changed(name, volume, word, said)

    def _changed(self, name: str, volume: dict[str, Any], word: str, said: dict[str, Any]) -> None:
        volume["labels"].update(said.get("set", {}))
        for key in said.get("removed", ()) if word == "labelled" else ():
            volume["labels"].pop(key, None)
        match word:
            case "provisioned":
                volume["shown"] = True
                volume["disk"] = (said["node"], said["size_bytes"]) if said.get("disk") else None
            case "growth-began":
                volume["asking"] = said["size_bytes"]
            case "grown":
                volume["asked"] = volume.pop("asking")
            case "held" | "undeleted":
                volume["held"] = word == "held"
            case "deleted" | "gone" | "provisioning-failed":
                del self.volumes[name]
            case _:
                pass
        if isinstance(said.get("attachment"), dict) and word != "attaching-began":
            parts = said["attachment"]["consumer"].split("/")
            volume["namespace"] = parts[1] if len(parts) > 2 else ""

    def _moved(self, name: str, said: dict[str, Any]) -> None:
        """Count for everybody whose bytes these are by now, and wherever they were moved."""
        whole = [("cluster", "cluster"), ("node", said["node"])]
        whole += [("pool", f"{said['node']}/{said['pool']}")] if "pool" in said else []
        for level, of in (*whole, *self._own(name, said["uid"])):
            for what in ("written", "read"):
                account = (level, name if level == "volume" else of, what)
                self.ended[account] += said.get(f"more_{what}_bytes", 0)

    def _snapshot(self, word: str, said: dict[str, Any]) -> None:
        if word in {"creation-began", "prepared"} and said["volume"] in self.volumes:
            self.snapshots[said["uid"]] = said["volume"]

    def _replica(self, word: str, said: dict[str, Any]) -> None:
        volume = self.volumes.get(said["volume"])
        if word == "created" and said.get("disk") and volume and volume["uid"] == said["uid"]:
            volume["disk"] = (said["node"], said["size_bytes"] - volume["header"])
        if word == "forgotten":
            self.claims[said["node"], said["pool"]].get(said["uid"], {})["lost"] = True

    def _target(self, word: str, said: dict[str, Any]) -> None:
        known = self.targets.get(said["target"])
        if known is not None and "backup" in said:
            known.add(said["backup"])
        match word:
            case "added":
                self.targets[said["target"]] = set()
            case "backup-made":
                self.backups[said["target"], said["backup"]] = said
                for account in (("cluster", "cluster"), ("target", said["target"])):
                    self.ended[(*account, "uploaded")] += said["uploaded"]["uploaded_bytes"]
            case "swept" if said.get("backup"):
                self.backups.pop((said["target"], said["backup"]), None)
            case "backup-began" | "backup-failed":
                self.backups.pop((said["target"], said["backup"]), None)
            case "removed":
                for name in self.targets.pop(said["target"], ()):
                    self.backups.pop((said["target"], name), None)
            case "backups-listed":
                raise NotImplementedError("nobody looks into targets in these histories")
            case _:
                return

    def _operation(self, word: str, said: dict[str, Any]) -> None:
        if word == "ended":
            what = f"{said['kind']}/{said['outcome']}"
            kind, _, name = said["object"].partition("/")
            self.ended["cluster", "cluster", what] += 1
            self.ended[kind, name, what] += 1
            if kind == "pool":
                self.ended["node", name.partition("/")[0], what] += 1

    def standing(self) -> Counted:
        """Return all that stands, by account and by what is counted."""
        sums: Counter[tuple[str, str, str]] = Counter()
        for accounts, what, size in self._standing():
            for account in set(accounts):
                sums[(*account, what)] += size
        return {key: size for key, size in sums.items() if size}

    def _standing(self) -> Iterator[tuple[list[Key], str, int]]:
        whole = ("cluster", "cluster")
        for (node, pool), facts in self.pools.items():
            here = [("pool", f"{node}/{pool}"), ("node", node), whole]
            yield here, "allocated", facts["thin"]
            for uid, claim in self.claims[node, pool].items():
                what = "promised" if claim["thin"] else "allocated"
                yield here, what, self._size(claim)
                yield from self._of_claim(here, uid, claim)
        for name, volume in self.volumes.items():
            own = self._own(name)
            asked = volume["asked"] if volume["shown"] and not volume["held"] else 0
            yield [*own, whole, *self._places(volume)], "requested", asked
            if volume["disk"] is not None:
                node, size = volume["disk"]
                yield [*own, whole, ("node", node)], "allocated", size
                yield [*own, whole, ("node", node)], "held", size if volume["held"] else 0
        for (target, _), backup in self.backups.items():
            own = self._own(backup["volume"], backup["volume_uid"])
            yield [*own, whole, ("target", target)], "backup", backup["size_bytes"]

    def _of_claim(
        self, here: list[Key], uid: str, claim: dict[str, Any]
    ) -> Iterator[tuple[list[Key], str, int]]:
        snapshot = uid in self.snapshots
        name = self.snapshots.get(uid) or next(
            (name for name, volume in self.volumes.items() if volume["uid"] == uid), ""
        )
        if name not in self.volumes or claim.get("lost"):
            return
        size, own = self._size(claim), self._own(name)
        yield own, "promised" if claim["thin"] else "allocated", size
        if snapshot or self.volumes[name]["held"]:
            yield own + here, "snapshot" if snapshot else "held", size

    def _size(self, claim: dict[str, Any]) -> int:
        return int(claim["settled"] + (claim["reserved"] if claim["thin"] else 0))

    def _own(self, name: str, uid: str = "") -> list[Key]:
        volume = self.volumes.get(name)
        if volume is None or uid not in {"", volume["uid"]}:
            return []
        labels = [("label", f"{key}={value}") for key, value in volume["labels"].items()]
        return [("volume", f"{name}/{volume['uid']}"), ("namespace", volume["namespace"]), *labels]

    def _places(self, volume: dict[str, Any]) -> Iterator[Key]:
        """Give the pools and nodes where the volume has a leg of its own."""
        if volume["disk"] is not None:
            yield "node", volume["disk"][0]
        for (node, pool), claims in self.claims.items():
            claim = claims.get(volume["uid"])
            if claim is not None and self._size(claim) and not claim.get("lost"):
                yield "node", node
                yield "pool", f"{node}/{pool}"


def reckon(log: Sequence[Stored], since: datetime, until: datetime) -> Counted:
    """Return the byte-microseconds of everything from *since* until before *until*."""
    reckoner, sums, before = Reckoner(), Counter[tuple[str, str, str]](), log[0].at
    standing: Counted = {}
    for stored in [*log, None]:
        now = until if stored is None else max(before, stored.at)
        overlap = min(now, until) - max(before, since)
        passed_us = max(0, overlap // timedelta(microseconds=1))
        for key, size in standing.items() if passed_us else ():
            sums[key] += size * passed_us
        if stored is not None:
            reckoner.read(stored)
            standing, before = reckoner.standing(), now
    return {key: total for key, total in sums.items() if total}


def operations(log: Sequence[Stored], since: datetime, until: datetime) -> Counted:
    """Return how many operations ended in that period, by object, kind and outcome."""
    reckoner, latest, counted = Reckoner(), log[0].at, Counter[tuple[str, str, str]]()
    for stored in log:
        latest = max(latest, stored.at)
        before = Counter(reckoner.ended)
        reckoner.read(stored)
        if since <= latest < until:
            counted += reckoner.ended - before
    return dict(counted)
