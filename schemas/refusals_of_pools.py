"""What the codes about pools mean, and what the reader can do about it."""

OF_POOLS: dict[str, tuple[str, str]] = {
    "HW-P001": ("There is no such pool on that node.", "hwbus pool ls shows the pools."),
    "HW-P002": (
        "The node has a pool of that name.",
        "Choose another name, or grow the pool: hwbus pool grow NAME --node NODE --disk ID.",
    ),
    "HW-P003": (
        "The pool has not that much room left; what is reserved counts as used.",
        "Ask for less, grow the pool, or delete what is not needed: hwbus usage.",
    ),
    "HW-P004": (
        "The pool's LVM metadata area has no room for another volume.",
        "Use another pool, or delete volumes.",
    ),
    "HW-P005": (
        "The pool holds as many volumes as it may.",
        "Use another pool, or delete volumes.",
    ),
    "HW-P006": (
        "The thin pool has promised as much as its over-commit ratio allows.",
        "Ask for less, or use a pool formed with a larger thin size or ratio.",
    ),
    "HW-P007": (
        "The pool was formed without a thin pool.",
        "Use a thick layout, or a pool formed with --thin SIZE.",
    ),
    "HW-P008": (
        "The pool carries volumes, or room is reserved in it.",
        "Delete or move them first: hwbus volume ls --pool NAME.",
    ),
    "HW-P009": (
        "Another operation is running on the pool.",
        "Wait for it or cancel it: hwbus op ls.",
    ),
    "HW-P010": (
        "The pool is being formed or removed.",
        "Wait for that operation: hwbus op ls.",
    ),
    "HW-P011": (
        "The pool has fewer disks with room than the stripes that were asked for.",
        "Ask for fewer stripes, or grow the pool by a disk.",
    ),
    "HW-P012": (
        "No disk was named, or one was named twice.",
        "Name each disk once: hwbus disk ls --blank.",
    ),
    "HW-P013": (
        "A disk of the pool says by SMART that it is failing; nothing new is put in the pool.",
        "hwbus disk show ID tells why; hwbus disk drain ID moves all off it while it can be read.",
    ),
    "HW-P016": (
        "A disk of the pool is missing or cannot be read; LVM changes nothing in the pool without.",
        "hwbus drift names the disk; plug it in again, or look at its cables and the kernel log.",
    ),
    "HW-P014": (
        "A pool keeps at least one disk; there would be nowhere to move its volumes to.",
        "Grow the pool by another disk first, or remove the empty pool: hwbus pool rm NAME.",
    ),
    "HW-P015": (
        "A thin pool grows and never shrinks; what is asked for is not larger than what it has.",
        "Ask for more than the present size: hwbus pool show NAME.",
    ),
}
