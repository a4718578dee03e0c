"""What the codes about approvals mean, and what the reader can do about it."""

OF_APPROVALS: dict[str, tuple[str, str]] = {
    "HW-E001": (
        "The object is protected: somebody else has to approve exactly this command first.",
        "Have somebody run hwbus approval show ID and approve ID, then repeat the same command.",
    ),
    "HW-E002": ("There is no such request.", "hwbus approval ls shows those that wait."),
    "HW-E003": (
        "Whoever asks cannot also approve: it takes two.",
        "Ask somebody else; hwbus approval reject ID takes the request back.",
    ),
    "HW-E004": (
        "An approval needs a person's name; anonymous and the control plane itself have none.",
        "Say who you are: --actor NAME, or HWBUS_ACTOR.",
    ),
    "HW-E005": (
        "The request is over: it was used, rejected, or nobody acted in time.",
        "Have the command repeated: that asks anew. hwbus approval show ID tells what became.",
    ),
    "HW-E006": ("There is no such protection.", "hwbus protection ls shows them."),
    "HW-E007": (
        "The protection would protect nothing: no command it names is about a kind it names.",
        "Leave out --kind or --act, or name some that go together.",
    ),
    "HW-E008": (
        "That is a step, a report or a field that only the control plane itself may say.",
        "Ask for the whole, without that field: hwbus api asyncapi tells which commands are steps.",
    ),
}
