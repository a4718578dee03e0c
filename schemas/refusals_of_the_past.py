"""What the codes about the past and the views of it mean, and what the reader can do about it."""

OF_THE_PAST: dict[str, tuple[str, str]] = {
    "HW-H001": (
        "That point has not come yet: it lies beyond the end of the log, or in the future.",
        "Ask for an earlier one; hwbus events tail shows the last commits and their times.",
    ),
    "HW-H002": (
        "That point lies before the first commit of the log: there was nothing to show.",
        "Ask for a later one; hwbus events show 1 tells when the log begins.",
    ),
    "HW-H003": (
        "That is neither a sequence number nor a moment.",
        "Write 4711, 2026-11-23T02:13:00Z or, on the command line, 15m for so long ago.",
    ),
    "HW-H004": (
        "The log did not give the events that lead to that point: it lost them, or is slow.",
        "Ask again, or for another point: what lies at or before a mark needs fewer of them.",
    ),
    "HW-H005": (
        "That view is about the present alone.",
        "Ask it without a point in time.",
    ),
    "HW-H006": (
        "The views are being checked or made anew, and one such work at a time is enough.",
        "Wait for its end, and ask again.",
    ),
}
