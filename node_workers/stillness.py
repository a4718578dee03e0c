"""Stable devices that stand still for a moment, and go on whatever dies meanwhile.

While a stable device is suspended, the filesystem on it is frozen and no I/O reaches the logical
volume below, which LVM can work with all the same. That all goes on is seen to three times: by the
script itself, which outlives a worker that is killed; by a keeper in a session of its own, which
lets go after a while even if the script is killed, or LVM hangs; and by the next look, or the next
start, of a worker.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from node_workers.devices import DEVICE_NAME, IDENTITY
from node_workers.ports import Execution, Runner, ToolFailedError, UnsuitableError
from node_workers.tools import LVM_TIMEOUT_S, Tools, meaning

STILL_MAX_S = 10
LET_GO_EARLY = 75

# Arguments: the bound in seconds, the devices in one word, then each command behind the number of
# its words. One tool and not several, so that nothing of ours runs while the devices stand still:
# what we write down could itself lie on one of them.
SCRIPT = r"""
bound=$1 devices=$2 keeper= status=0 late=
shift 2
thaw() {
    for device in $devices; do dmsetup resume "$device" || status=$?; done
    [ -z "$keeper" ] || kill -s TERM -- "-$keeper" 2>/dev/null || kill "$keeper" 2>/dev/null
}
first() {
    left=$1; shift; rest=$(($# - left))
    while [ "$left" -gt 0 ]; do set -- "$@" "$1"; shift; left=$((left - 1)); done
    shift "$rest"
    "$@"
}
trap '' PIPE  # nobody may be there to read what LVM says; it must not die of that
trap 'thaw; exit 143' HUP INT TERM
if [ -n "$devices" ]; then
    setsid sh -c 'sleep "$1"; shift; for d; do dmsetup resume "$d" & done; wait' \
        hwbus "$bound" $devices </dev/null >/dev/null 2>&1 &
    keeper=$!
fi
for device in $devices; do
    # Whoever died half way through moving it has left a table that resuming would put in place.
    [ "$status" -ne 0 ] || { dmsetup clear "$device" && dmsetup suspend "$device"; } || status=$?
done
while [ "$status" -eq 0 ] && [ $# -gt 0 ]; do
    words=$1; shift
    first "$words" "$@" || status=$?
    shift "$words"
done
for device in $devices; do
    case $(dmsetup info -c --noheadings -o suspended "$device") in
        Suspended) ;;
        *) late=yes ;;
    esac
done
thaw
if [ "$status" -eq 0 ] && [ -n "$late" ]; then
    echo "hwbus: let go before the end, after at most $bound s" >&2
    status=75
fi
exit "$status"
"""
STILL = ("sh", "-c", SCRIPT, "hwbus")

# The same in two, for what has to be done meanwhile on other nodes: arguments are the bound and the
# devices; the keeper is printed, and handed to the other script, which asks whether all of them
# stood still to its beginning. Nothing of ours runs between them, so whoever ends a whole service
# politely must not end the keeper: it is deaf to that, and is killed.
HOLD_SCRIPT = r"""
bound=$1 devices=$2
thaw() {
    for d in $devices; do dmsetup resume "$d"; done
    kill -s KILL -- "-$keeper" 2>/dev/null || kill -s KILL "$keeper" 2>/dev/null
    exit "$1"
}
setsid sh -c 'trap "" HUP INT TERM; sleep "$1"; shift; for d; do dmsetup resume "$d" & done; wait' \
    hwbus "$bound" $devices </dev/null >/dev/null 2>&1 &
keeper=$!
trap 'thaw 143' HUP INT TERM
for device in $devices; do
    # A table that somebody loaded who died would be put in place by the resume.
    dmsetup clear "$device" || thaw $?
    dmsetup suspend "$device" || thaw $?
done
# What came to rest only after the keeper had let go has nobody who would let it go.
kill -s 0 "$keeper" 2>/dev/null || {
    echo "hwbus: did not come to rest in $bound s" >&2
    thaw 75
}
echo "$keeper"
"""
LET_GO_SCRIPT = r"""
keeper=$1 devices=$2 status=0 late=
for device in $devices; do
    case $(dmsetup info -c --noheadings -o suspended "$device") in
        Suspended) ;;
        *) late=yes ;;
    esac
done
for device in $devices; do dmsetup resume "$device" || status=$?; done
kill -s KILL -- "-$keeper" 2>/dev/null || kill -s KILL "$keeper" 2>/dev/null
if [ "$status" -eq 0 ] && [ -n "$late" ]; then
    echo "hwbus: let go before the end" >&2
    status=75
fi
exit "$status"
"""
HOLD = ("sh", "-c", HOLD_SCRIPT, "hwbus")
LET_GO = ("sh", "-c", LET_GO_SCRIPT, "hwbus")
LOOK = ("dmsetup", "info", "-c", "--noheadings", "--separator", "|", "-o", "name,uuid,attr")
# LVM would wait for a device that stands still, to see whether it holds a volume group.
NOT_THE_STILL = ("--config", "devices/ignore_suspended_devices=1")
_SUSPENDED = "s"
_INACTIVE = "I"
_FIELDS = 3


async def work_while_still(
    runner: Runner, volumes: Sequence[str], commands: Sequence[Sequence[str]], *, cause: str
) -> None:
    """Run *commands* one after another while the stable devices of *volumes* stand still.

    They are suspended in order, and all are resumed after the last command or the first that fails.
    Raises what the failed command means, and ``UnsuitableError`` if the devices went on before the
    end: then what was made is not of one instant.
    """
    devices = " ".join(f"{DEVICE_NAME}{volume}" for volume in volumes)
    words = [word for command in commands for word in (str(len(command)), *command)]
    execution = await runner.run(
        (*STILL, str(STILL_MAX_S), devices, *words),
        cause=cause,
        timeout_s=STILL_MAX_S + LVM_TIMEOUT_S * max(1, len(commands)),
    )
    _require_still(execution)


@asynccontextmanager
async def held_still(runner: Runner, volumes: Sequence[str], *, cause: str) -> AsyncIterator[None]:
    """Have the stable devices of *volumes* stand still meanwhile; without any, nothing is done.

    Raises what a command that failed means, and at the end ``UnsuitableError`` if the devices went
    on before: then what was done is not of one instant. What we write down meanwhile must not lie
    on one of them, or they go on when their time is up.
    """
    if not volumes:
        yield
        return
    devices = " ".join(f"{DEVICE_NAME}{volume}" for volume in volumes)
    bound_s = STILL_MAX_S
    held = await runner.run(
        (*HOLD, str(bound_s), devices), cause=cause, timeout_s=bound_s + LVM_TIMEOUT_S
    )
    _require_still(held)
    let_go = (*LET_GO, held.stdout.strip(), devices)
    try:
        yield
    except BaseException:
        await runner.run(let_go, cause=cause, timeout_s=LVM_TIMEOUT_S)
        raise
    _require_still(await runner.run(let_go, cause=cause, timeout_s=LVM_TIMEOUT_S))


def _require_still(execution: Execution) -> None:
    if execution.exit_status == LET_GO_EARLY:
        raise UnsuitableError("not-still", execution.stderr.strip())
    if execution.exit_status != 0:
        raise meaning(execution)


async def ensure_moving(
    runner: Runner, *, cause: str, except_for: Collection[str] = ()
) -> tuple[str, ...]:
    """Have no stable device stand still, except for those of these volumes; return which did."""
    tools = Tools(runner)
    execution = await tools.must(*LOOK, cause=cause)
    found: dict[str, str] = {}
    for line in execution.stdout.splitlines():
        fields = line.split("|")
        if len(fields) != _FIELDS and "|" in line:
            raise ToolFailedError(execution)
        ours = fields[0].startswith(DEVICE_NAME) and fields[1].startswith(IDENTITY)
        if ours and _SUSPENDED in fields[2]:
            found[fields[0].removeprefix(DEVICE_NAME)] = fields[2]
    moved = tuple(volume for volume in sorted(found) if volume not in except_for)
    for volume in moved:
        if _INACTIVE in found[volume]:
            # It was to be moved by somebody who died: where it belongs is another's to say.
            await tools.must("dmsetup", "clear", f"{DEVICE_NAME}{volume}", cause=cause)
        await tools.must("dmsetup", "resume", f"{DEVICE_NAME}{volume}", cause=cause)
    return moved
