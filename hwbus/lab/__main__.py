"""The lab's daemon: `python -m hwbus.lab --state DIR --nodes 3 --disks 3 --disk-size 20G`."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from hwbus.identity import SystemClock
from hwbus.lab.control import ControlSocket
from hwbus.lab.daemon import Lab
from hwbus.lab.protocol import ENDPOINTS, SOCKET, Done, Endpoints, Refused, Step
from hwbus.lab.requirements import why_not
from hwbus.lab.spec import LabSpec, read_services, uniform
from hwbus.lab.uml.errors import LabError
from hwbus.lab.workspace import DAEMON_LOCK, clear, lock


def main(argv: list[str] | None = None) -> int:
    """Run a lab until somebody ends it; returns the exit status."""
    arguments = _parser().parse_args(argv)
    report = _reporter(arguments.report_fd)
    try:
        spec, state = _spec(arguments), arguments.state.resolve()
        claim(state)
        asyncio.run(serve(spec, state, arguments.owner_pid, report))
    except LabError as error:
        report(Refused(error="LabError", message=str(error)))
        return 1
    return 0


def claim(state: Path) -> None:
    """Make the directory ours for as long as we live, and remove what a dead lab left in it.

    Raises `LabError` if the machine cannot run a lab, or if one is running there already.
    """
    reason = why_not()
    if reason:
        raise LabError(reason)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if lock(state / DAEMON_LOCK) is None:
        raise LabError(f"a lab is running already in {state}")
    clear(state, logs=True)
    (state / "logs").mkdir()


async def serve(
    spec: LabSpec,
    state: Path,
    owner_pid: int | None,
    report: Callable[[Step | Done | Refused], None],
) -> None:
    """Bring a lab up in `state`, which is ours, serve it, and take it down.

    It goes down when asked over its socket, at SIGTERM or SIGINT, or when `owner_pid` ends.
    Raises `LabError` if it does not come up.
    """
    lab = Lab(spec, state, clock=SystemClock(), progress=lambda words: report(Step(words=words)))
    control = ControlSocket(lab, state / SOCKET)
    _end_with(control.down, owner_pid)
    try:
        if await _done_before(control.down, lab.start()):
            await control.start()
            endpoints = Endpoints(pid=os.getpid(), nats_url=lab.nats_url, ports=lab.ports)
            _write(state / ENDPOINTS, endpoints)
            report(Done())
            await control.down.wait()
            await lab.close()
    finally:
        await control.close()
        clear(state, logs=False)


async def _done_before(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless the event comes first; then the work is cancelled."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return False


def _end_with(down: asyncio.Event, owner_pid: int | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, down.set)
    if owner_pid is None:
        return
    try:
        owner = os.pidfd_open(owner_pid)
    except ProcessLookupError:
        down.set()
        return

    def gone() -> None:
        loop.remove_reader(owner)
        os.close(owner)
        down.set()

    loop.add_reader(owner, gone)


def _write(path: Path, endpoints: Endpoints) -> None:
    path.write_bytes(msgspec.json.encode(endpoints))


def _reporter(descriptor: int | None) -> Callable[[Step | Done | Refused], None]:
    """Return what tells the one who started us, in JSON lines; in words if that is a person."""

    def report(answer: Step | Done | Refused) -> None:
        sys.stderr.write(f"{_words(answer)}\n")
        if descriptor is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(descriptor, msgspec.json.encode(answer) + b"\n")

    return report


def _words(answer: Step | Done | Refused) -> str:
    match answer:
        case Step():
            return answer.words
        case Refused():
            return answer.message
        case Done():
            return "ready"


def _spec(arguments: argparse.Namespace) -> LabSpec:
    if arguments.spec:
        try:
            return msgspec.json.decode(arguments.spec.read_bytes(), type=LabSpec)
        except (OSError, msgspec.DecodeError) as error:
            raise LabError(f"{arguments.spec} does not describe a lab: {error}") from error
    services = read_services(arguments.services) if arguments.services else ()
    return uniform(
        arguments.nodes,
        arguments.disks,
        arguments.disk_size,
        services=services,
        nats_port=arguments.nats_port,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hwbus.lab", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="directory of the lab")
    parser.add_argument("--spec", type=Path, help="the whole lab as a JSON file (LabSpec)")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--disks", type=int, default=3, help="disks of each node")
    parser.add_argument("--disk-size", default="20G")
    parser.add_argument("--services", type=Path, help="a JSON list of ServiceSpec")
    parser.add_argument("--nats-port", type=int, default=0, help="on 127.0.0.1; 0: any free one")
    parser.add_argument("--owner-pid", type=int, help="go down when this process ends")
    parser.add_argument("--report-fd", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
