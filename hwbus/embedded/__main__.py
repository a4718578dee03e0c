"""The supervisor's door: ``python -m hwbus.embedded --state DIR``; ``hwbus up`` goes through it."""

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path

import msgspec

from hwbus.embedded.layout import Layout, Said, Settings
from hwbus.embedded.supervisor import NotReadyError, Supervisor
from hwbus.identity import SystemClock
from hwbus.logs import configure_logs
from hwbus.server import BrokerError


def main(argv: list[str] | None = None) -> int:
    """Serve until told to end; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hwbus.embedded", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--disks", type=int, default=3)
    parser.add_argument("--disk-size-bytes", type=int, default=10 << 30)
    parser.add_argument("--report-fd", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)

    def say(what: str, words: str = "") -> None:
        sys.stderr.write(f"{what}: {words}\n")
        if given.report_fd is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(given.report_fd, msgspec.json.encode(Said(what, words)) + b"\n")

    layout = Layout(given.state)
    layout.prepare()
    held = layout.lock()
    if held is None:
        say("failed", f"another supervisor is at work in {given.state}")
        return 1
    before = layout.settings() or Settings()
    settings = Settings(
        nodes=given.nodes,
        disks=given.disks,
        disk_size_bytes=given.disk_size_bytes,
        port=before.port,
    )
    os.umask(0o077)
    configure_logs()
    try:
        supervisor = Supervisor(layout, settings, SystemClock(), lambda words: say("step", words))
        asyncio.run(supervisor.run(lambda: say("ready")))
    except (BrokerError, NotReadyError) as error:
        say("failed", str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
