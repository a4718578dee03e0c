"""Encryption above DRBD: one header for all legs, which hold and send nothing but ciphertext."""

from node_workers.drbd_roles import Promoted, Roles
from node_workers.drbd_tools import PeerIsPrimaryError, Seen
from node_workers.filesystems import require_room
from node_workers.luks import Luks
from node_workers.lvm_encrypted import EncryptedVolumes
from node_workers.ports import Filesystem, Runner, VolumeSpec
from node_workers.replication import ReplicationSpec, Role
from node_workers.stacks import Stacks
from schemas.keys import HEADER_BYTES


class EncryptedReplicas:
    """Makes, grows and rekeys what is encrypted, where the volume is written to.

    While it is in use the header is reached by what the plain side lies on, else by the replicated
    device, on which this node is primary for as long as it takes.
    """

    def __init__(self, runner: Runner, luks: Luks, roles: Roles) -> None:
        self._luks = luks
        self._roles = roles
        self._stacks = Stacks(runner, luks)
        self._encrypted = EncryptedVolumes(runner, luks)

    async def ensure_made(
        self, leg: VolumeSpec, spec: ReplicationSpec, made: Promoted, *, cause: str
    ) -> None:
        """Have header and filesystem on the replicated device of a volume that nobody has had yet.

        A header of ours that has a key is kept, and what is anybody else's is left alone.
        """
        require_room(leg.filesystem, spec.size_bytes - HEADER_BYTES)
        fresh = await self._luks.ensure_formatted(made.path, spec.uid, leg.keys[0], cause=cause)
        await self._fill(leg, spec, made.path, fresh=fresh, growing=False, cause=cause)

    async def require_key(
        self, leg: VolumeSpec, spec: ReplicationSpec, seen: Seen, *, cause: str
    ) -> None:
        """Raise ``NoKeyError`` or ``UnsuitableError`` if it could not be grown here for its key."""
        stack = await self._stacks.find(spec.volume, spec.uid, cause=cause)
        if stack.header_path:
            await self._luks.key_for(stack.header_path, spec.uid, leg.keys, cause=cause)
            return
        peers = seen.resource.peers if seen.resource is not None else ()
        elsewhere = any(one.role is Role.PRIMARY for one in peers)
        if not elsewhere and leg.filesystem is not Filesystem.NONE:
            await self._luks.require_any_key(leg.keys)

    async def ensure_grown(self, leg: VolumeSpec, spec: ReplicationSpec, *, cause: str) -> None:
        """Have all that lies on the replicated device as large, where it is in use, or nowhere."""
        stack = await self._stacks.find(spec.volume, spec.uid, cause=cause)
        path = stack.header_path
        if path:
            await self._fill(leg, spec, path, fresh=False, growing=True, cause=cause)
            return
        if leg.filesystem is Filesystem.NONE:
            return  # it fills the device when it is opened
        try:
            promoted = await self._roles.promote(spec, cause=cause)
        except PeerIsPrimaryError:
            return  # it is grown there
        try:
            await self._fill(leg, spec, promoted.path, fresh=False, growing=True, cause=cause)
        finally:
            await self._roles.demote(spec.volume, spec.uid, force=False, cause=cause)

    async def ensure_keys(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        dropped: tuple[str, ...],
        *,
        elsewhere: bool,
        cause: str,
    ) -> None:
        """Have the volume open by ``leg.keys``, and by none of *dropped*.

        *elsewhere*: another node sees to that, and this one shall have the keys for later.
        """
        if elsewhere:
            await self._luks.require_keys(leg.keys)
            return
        stack = await self._stacks.find(spec.volume, spec.uid, cause=cause)
        path = stack.header_path
        if path:
            await self._luks.ensure_keys(path, spec.uid, leg.keys, dropped, cause=cause)
            return
        promoted = await self._roles.promote(spec, cause=cause)
        try:
            path = promoted.path
            await self._luks.ensure_keys(path, spec.uid, leg.keys, dropped, cause=cause)
        finally:
            await self._roles.demote(spec.volume, spec.uid, force=False, cause=cause)

    async def _fill(
        self,
        leg: VolumeSpec,
        spec: ReplicationSpec,
        path: str,
        *,
        fresh: bool,
        growing: bool,
        cause: str,
    ) -> None:
        async def extended() -> None:
            """Do nothing: the device has its size before what lies on it."""

        await self._encrypted.fill(
            leg, path, spec.size_bytes, extended, fresh=fresh, growing=growing, cause=cause
        )
