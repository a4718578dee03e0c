"""Errands of a simulated machine, and secrets that are known to a test."""

from node_workers.keys import Key
from schemas.errand import Upload
from schemas.volume import Filesystem, Layout
from tests.support.backup_words import PLACE
from tests.support.given import NOON
from tests.support.s3 import CREDENTIALS_JSON


class TestersSecrets:
    """Gives the credentials of the tests, whatever the reference."""

    async def key(self, reference: str) -> Key:
        del reference
        return Key(CREDENTIALS_JSON.encode())


def upload(size_bytes: int, *, pool: str = "fast", backup: str = "b1") -> Upload:
    """Return that the snapshot s1 shall be backed up."""
    return Upload(
        place=PLACE,
        backup=backup,
        cluster="home",
        volume="v1",
        volume_uid="0" * 26,
        size_bytes=size_bytes,
        layout=Layout.LINEAR,
        filesystem=Filesystem.NONE,
        pool=pool,
        snapshot="s1",
        snapshot_uid="uid-s1",
        consistency="crash",
        at=NOON,
    )
