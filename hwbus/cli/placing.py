"""What was looked at when a volume was placed, as people read it."""

from hwbus.cli.cells import Row
from hwbus.cli.output import print_cells
from hwbus.cli.paint import clean, plain
from hwbus.cli.sizes import format_size


def print_candidates(candidates: list[Row]) -> None:
    """Print the pools or disks that were looked at, in their order."""
    rows = [
        (
            clean(f"{c.get('node')}/{c.get('disk') or c.get('pool')}"),
            format_size(c.get("room_bytes", 0)),
            str(c.get("score", 0)),
            clean(" ".join(filter(None, (c.get("code"), c.get("because")))))
            or plain("", c.get("parts")),
        )
        for c in candidates
    ]
    print_cells(("POOL", "ROOM", "SCORE", "WHY"), rows, right=(1, 2))
