"""Opening whatever can be played, and saying what it is."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hwbus.archives import Source
from hwbus.replaying.bundle import Bundle, bundled, is_bundle
from hwbus.replaying.player import Player
from hwbus.replaying.tape import Tape, archived
from hwbus.verifying import Verdict, summary


class Opened(msgspec.Struct, frozen=True):
    """A tape, what is to be said of the file, and whether it is as it was when it was written.

    ``hashes`` are those that its writer had, by sequence.
    """

    tape: Tape
    said: tuple[str, ...]
    good: bool
    hashes: dict[int, str] = {}

    def fits(self, player: Player) -> bool | None:
        """Return whether *player* has come to what the writer had; None: that is not known."""
        known = self.hashes.get(player.seq)
        return None if known is None else known == player.hash()


@contextmanager
def opened(source: Source, keys: Collection[str] = ()) -> Iterator[Opened]:
    """Open a bundle or an archive. Raises as ``hwbus.archives.opened``."""
    if isinstance(source, Path) and is_bundle(source):
        with bundled(source) as bundle:
            about = bundle.about
            hashes = {about.after: bundle.begins, about.until: bundle.ends}
            yield Opened(bundle.tape, tuple(_said_of(bundle)), good=True, hashes=hashes)
        return
    with archived(source, keys) as (tape, verdict):
        yield Opened(tape, tuple(_said(verdict, tape)), verdict.first_bad is None)


def _said(verdict: Verdict, tape: Tape) -> Iterator[str]:
    yield summary(verdict)[0]
    for finding in verdict.findings:
        yield f"{finding.seq} {finding.what}: {finding.because}"
    if verdict.first_bad is not None:
        yield f"played is what is before that: up to {tape.last}"


def _said_of(bundle: Bundle) -> Iterator[str]:
    about, tape = bundle.about, bundle.tape
    yield (
        f"commits {about.after + 1} to {about.until} around operation {about.operation}, and "
        f"{len(tape.records)} records of the audit; written by version {about.version}, not signed"
    )
    if about.redacted is None:
        yield "names are as they were"
    else:
        yield f"redacted: {redactions(about.redacted)}"
    for cause in about.cut:
        yield f"further back, and not in it: {cause}"


def redactions(counts: dict[str, int]) -> str:
    """Return how many names of which kind were replaced."""
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items()) or "there were no names"
