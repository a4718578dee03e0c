"""The tools of DRBD, and what their refusals mean.

``drbdadm`` reads the resource file, so that no secret is in any argument of ours. What it says when
one of its own calls fails has all the arguments of that in it; they are struck out before anybody
keeps what it said. Which DRBD is loaded decides what they accept: 8.4 has minors where 9 has names.
"""

import re

import msgspec

from node_workers import drbd_config, drbd_status
from node_workers.drbd_config import Note, Version
from node_workers.drbd_status import Resource
from node_workers.ports import (
    Execution,
    InUseError,
    NotThereError,
    Refusal,
    RefusedToTouchError,
    Runner,
    ToolFailedError,
    UnsuitableError,
)
from node_workers.replication import DiskState, Generations, Member, ReplicationSpec, Start
from node_workers.tools import REMOVE, Tools, meaning

# Prints the name of this host, the first lines of our files (each after one that names it), which
# volumes have legs that met a peer whose data went another way, the DRBD that is loaded, and what
# the kernel has. It is asked often: a shell reads long lines byte by byte, so ``head`` does it.
LOOK = (
    "sh",
    "-c",
    rf"""
read -r name </proc/sys/kernel/hostname; echo "host $name"
set -- {drbd_config.FOLDER}/{drbd_config.RESOURCE}*.res
[ ! -e "$1" ] || {{ head -v -n 1 -- "$@"; echo; }}
for mark in {drbd_config.SPLITS}/*; do [ ! -e "$mark" ] || echo "split ${{mark##*/}}"; done
[ -e /proc/drbd ] || exit 0
read -r first </proc/drbd; echo "drbd ${{first#version: }}"
case $first in
    "version: 8."*) drbdsetup events2 --now --statistics ;;
    *) echo json; drbdsetup status --json --statistics ;;
esac
""",
)
# Argument: the path. The file is whole and on the disk, or it is the one that was there before.
PUT = (
    "sh",
    "-ec",
    'umask 077; mkdir -p "${1%/*}"; cat >"$1.new"; sync "$1.new"; mv "$1.new" "$1"; sync "${1%/*}"',
    "hwbus",
)
DRBDADM = (
    "sh",
    "-c",
    r"""{ said=$(drbdadm "$@" 2>&1 >&3); } 3>&1; status=$?
[ -z "$said" ] || printf '%s\n' "$said" | sed "s/--shared-secret=[^ ']*/--shared-secret=.../g" >&2
exit $status""",
    "drbdadm",
)
# The dump goes through a file, since drbdmeta reads it twice.
RESTORE = (
    "sh",
    "-ec",
    'dump=$(mktemp); trap \'rm -f "$dump"\' EXIT; cat >"$dump"; "$@" "$dump"',
    "hwbus",
)

_FILE = re.compile(
    f"==> {drbd_config.FOLDER}/{drbd_config.RESOURCE}(?P<volume>.+)[.]res <==", re.ASCII
)
_NO_METADATA = 1
_MANY_PRIMARIES = "Multiple primaries not allowed"
_HELD_OPEN = "held open"
_STALE = ("Need access to UpToDate data", "Refusing to be Outdated", "Can not resync")
_TIMEOUT_S = 60.0
_SLOW_TIMEOUT_S = 300.0


class PeerIsPrimaryError(InUseError):
    """The volume is in use on another node."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = "peer-is-primary"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What there is on this machine: notes by volume, and what the kernel has by resource.

    A file without a note is somebody else's, in spite of its name.
    """

    host: str
    version: Version | None
    notes: dict[str, Note | None]
    splits: frozenset[str]
    resources: dict[str, Resource]

    def note(self, volume: str, uid: str) -> Note | None:
        """Return the volume's note. Raises ``RefusedToTouchError`` if the file is another's."""
        if volume not in self.notes:
            return None
        note = self.notes[volume]
        if note is None or note.spec.uid != uid:
            whose = "nobody we know" if note is None else f"the volume {note.spec.uid}"
            raise RefusedToTouchError(
                Refusal.FOREIGN_DEVICE, f"{drbd_config.path(volume)} is of {whose}"
            )
        return note

    def seen(self, volume: str, uid: str, version: Version) -> "Seen":
        """Return what there is of one volume. Raises as ``note`` does."""
        return Seen(
            host=self.host,
            version=version,
            note=self.note(volume, uid),
            resource=self.resources.get(drbd_config.resource(volume)),
            marked=uid in self.splits,
        )


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """How metadata comes to be, where there is none. ``alone``: in use before it has any peer."""

    start: Start
    may_create: bool
    alone: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One volume as it is found; ``resource`` is None while the kernel has nothing of it."""

    host: str
    version: Version
    note: Note | None
    resource: Resource | None
    marked: bool

    @property
    def attached(self) -> bool:
        """Whether DRBD has the leg."""
        gone = (DiskState.DISKLESS, DiskState.FAILED)
        return self.resource is not None and self.resource.disk not in gone

    @property
    def connected(self) -> bool:
        """Whether all peers are there."""
        return self.resource is not None and self.resource.connected

    @property
    def split(self) -> bool:
        """Whether it has met a peer whose data went another way, and it is not settled."""
        return self.marked and not self.connected


class DrbdTools:
    """Runs them."""

    def __init__(self, runner: Runner) -> None:
        self._tools = Tools(runner)

    async def look(self, *, cause: str) -> Look:
        """Return what is there."""
        return _parse_look(await self._tools.must(*LOOK, cause=cause))

    async def ready(self, *, cause: str) -> tuple[Look, Version]:
        """Have DRBD loaded. Raises ``UnsuitableError`` (``cannot-replicate``) if it cannot be."""
        look = await self.look(cause=cause)
        if look.version is None:
            loaded = await self._tools.runner.run(
                ("modprobe", "drbd"), cause=cause, timeout_s=_TIMEOUT_S
            )
            look = await self.look(cause=cause)
            if look.version is None:
                said = loaded.stderr.strip() or "modprobe said nothing"
                raise UnsuitableError("cannot-replicate", f"no DRBD can be loaded here: {said}")
        return look, look.version

    async def see(self, volume: str, uid: str, *, cause: str) -> Seen:
        """Return what there is of one volume. Raises ``RefusedToTouchError`` for another's file."""
        look, version = await self.ready(cause=cause)
        return look.seen(volume, uid, version)

    async def put(self, volume: str, text: str, *, cause: str) -> None:
        """Have the resource file so, readable by root alone."""
        await self._tools.must(
            *PUT, drbd_config.path(volume), cause=cause, stdin=text.encode(), timeout_s=_TIMEOUT_S
        )

    async def forget(self, volume: str, uid: str, *, cause: str) -> None:
        """Have no resource file, not after a power loss either, and no mark.

        With the minor and the port of a volume that is gone it would bar whoever has them next.
        """
        marks = f"{drbd_config.SPLITS}/{uid}"
        await self._tools.must(*REMOVE, drbd_config.path(volume), marks, cause=cause)

    async def unmark(self, uid: str, *, cause: str) -> None:
        """Have the meeting with a peer whose data went another way forgotten."""
        await self._tools.must("rm", "-f", f"{drbd_config.SPLITS}/{uid}", cause=cause)

    async def adm(self, *words: str, cause: str, timeout_s: float = _TIMEOUT_S) -> Execution:
        """Run ``drbdadm``. Raises what its refusal means."""
        execution = await self._tools.runner.run(
            (*DRBDADM, *words), cause=cause, timeout_s=timeout_s
        )
        if execution.exit_status != 0:
            raise _meaning(execution)
        return execution

    async def detach(self, minor: int, *, cause: str) -> None:
        """Have the device without its leg, whatever is under way to it."""
        await self._tools.must(
            *("drbdsetup", "detach", str(minor), "--force"), cause=cause, timeout_s=_TIMEOUT_S
        )

    async def is_ours(
        self, spec: ReplicationSpec, here: Member, version: Version, *, cause: str
    ) -> bool:
        """Return whether metadata of the volume and tie is on the leg, which nobody has open.

        DRBD keeps for us the number that says whose it is. What is left of an earlier life of the
        same extents, or of an earlier tie, bears another; what a crash left half made bears none.
        """
        argv = (*_on_leg(spec.volume, here.minor, version), "read-dev-uuid")
        execution = await self._tools.must(
            *argv, cause=cause, timeout_s=_TIMEOUT_S, accepted=frozenset({0, _NO_METADATA})
        )
        return execution.stdout.strip() == drbd_config.identity(spec.uid, here)

    async def generations(self, name: str, *, cause: str) -> Generations:
        """Return the generation identifiers of a resource that is attached."""
        execution = await self.adm("get-gi", name, cause=cause)
        fields = execution.stdout.split(":")
        return Generations(current=fields[0].strip(), bitmap=fields[1], history=tuple(fields[2:4]))

    async def make(
        self, spec: ReplicationSpec, here: Member, version: Version, birth: Birth, *, cause: str
    ) -> None:
        """Make metadata where there is none of ours. Ours it is only at the end.

        Where it is alone, its peers count as outdated until they have been here.
        """
        forced = _on_leg(spec.volume, here.minor, version, "--force")
        slots = () if version.old else (str(max(1, len(spec.members) - 1)),)
        # It refuses, in spite of its option, if a filesystem reaches into where it would write.
        await self._tools.must(*forced, "create-md", *slots, cause=cause, timeout_s=_SLOW_TIMEOUT_S)
        if birth.start is Start.DATA and version.old:
            # 8.4 takes all for differing when it first sees a leg whose size is not in there.
            dump = drbd_config.dump(spec, here, alone=birth.alone).encode()
            await self._tools.must(
                *(*RESTORE, *forced, "restore-md"),
                cause=cause,
                timeout_s=_SLOW_TIMEOUT_S,
                stdin=dump,
            )
            return
        if birth.start is Start.DATA:
            generations = f"{drbd_config.first_generation(spec)}:0:0:0:1:1"
            generations += ":0:0:0:1" if birth.alone else ""
            for peer in spec.members:
                slot = ("--node-id", str(peer.index))
                await self._tools.must(*forced, "set-gi", *slot, generations, cause=cause)
        mark = ("write-dev-uuid", drbd_config.identity(spec.uid, here))
        await self._tools.must(*forced, *mark, cause=cause, timeout_s=_TIMEOUT_S)

    async def outdate(self, volume: str, minor: int, version: Version, *, cause: str) -> None:
        """Have the data of a leg that is not attached known as old."""
        argv = (*_on_leg(volume, minor, version, "--force"), "outdate")
        await self._tools.must(*argv, cause=cause, timeout_s=_TIMEOUT_S)

    async def wipe(self, volume: str, minor: int, version: Version, *, cause: str) -> None:
        """Have no metadata on a leg that is not attached."""
        argv = (*_on_leg(volume, minor, version, "--force"), "wipe-md")
        await self._tools.must(*argv, cause=cause, timeout_s=_TIMEOUT_S)


def _on_leg(volume: str, minor: int, version: Version, *options: str) -> tuple[str, ...]:
    form = "v08" if version.old else "v09"
    return ("drbdmeta", *options, str(minor), form, drbd_config.LEG.format(volume), "internal")


def _meaning(execution: Execution) -> Exception:
    said = execution.stderr
    last = next((line.strip() for line in said.splitlines() if line.strip()), "drbdadm refused")
    if _MANY_PRIMARIES in said:
        return PeerIsPrimaryError("it is in use on another node")
    if _HELD_OPEN in said:
        return InUseError("somebody has the replicated device open")
    if any(words in said for words in _STALE):
        return UnsuitableError("not-up-to-date", last)
    if "no resources defined" in said or "not defined in your config" in said:
        return NotThereError("metadata-missing", last)
    return meaning(execution)


def _parse_look(execution: Execution) -> Look:
    said, notes = _without_notes(execution.stdout)
    ours, json, state = said.partition("\njson\n")
    host, version, splits = "", None, set[str]()
    for line in ours.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "host":
            host = rest
        elif kind == "drbd":
            version = _version(rest, execution)
        elif kind == "split":
            splits.add(rest)
    resources = drbd_status.parse_json(state) if json else drbd_status.parse_events(ours)
    return Look(
        host=host,
        version=version,
        notes=notes,
        splits=frozenset(splits),
        resources=resources,
    )


def _without_notes(said: str) -> tuple[str, dict[str, Note | None]]:
    """Part the first lines of files, which may be anybody's, from what is said of this host."""
    rest, notes = list[str](), dict[str, Note | None]()
    lines = iter(said.split("\n"))
    for line in lines:
        if found := _FILE.fullmatch(line):
            notes[found["volume"]] = _note(next(lines, ""))
        else:
            rest.append(line)
    return "\n".join(rest), notes


def _version(said: str, execution: Execution) -> Version:
    try:
        major, minor = said.split(" ", maxsplit=1)[0].split(".")[:2]
        return Version(int(major), int(minor))
    except ValueError as error:
        raise ToolFailedError(execution) from error


def _note(first: str) -> Note | None:
    try:
        return msgspec.json.decode(first.removeprefix(drbd_config.NOTE), type=Note)
    except msgspec.DecodeError:
        return None
