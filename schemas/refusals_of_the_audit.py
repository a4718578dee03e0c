"""What the codes about the audit mean, and what the reader can do about it."""

OF_THE_AUDIT: dict[str, tuple[str, str]] = {
    "HW-A001": (
        "Nothing may be taken out of the events: they are the state, and read at every start.",
        "Only records of the audit may go: hwbus audit prune.",
    ),
    "HW-A002": (
        "What is to be taken out is not that old yet: the moment lies ahead.",
        "Say how old it has to be, with --older-than 90d; compare the clocks: hwbus doctor.",
    ),
    "HW-A003": (
        "The same part of the audit was released before, and it was another one.",
        "Take nothing out. Compare: hwbus audit verify, and --from-archive of both places.",
    ),
    "HW-A004": (
        "The archive does not hold what was signed here, or another audit than this one.",
        "Look at hwbus audit verify, and at hwbus audit verify --from-archive PLACE.",
    ),
    "HW-A005": (
        "The broker's stream was made so that nothing can be taken out of it.",
        "That cannot be changed of a stream that there is; docs/audit.md tells what can be done.",
    ),
}
