"""What the refusals and alarms of policies mean, and what to do, by their codes."""

POLICY_ADVICE: dict[str, tuple[str, str]] = {
    "HW-Y001": ("There is no such policy.", "hwbus policy ls shows them."),
    "HW-Y002": (
        (
            "The threshold is not one at which anything could be done: levels are told from 50 per "
            "cent on, in steps of five, and at 100 it is too late."
        ),
        "Use --at with 50 to 99 per cent, such as 80%.",
    ),
    "HW-Y003": (
        "The step is nothing, more than tenfold, or given both in bytes and per cent.",
        "Use --step with one of the two, such as 10GiB or 20%.",
    ),
    "HW-Y004": (
        "The ceiling is below a single step, so the policy could never do anything.",
        "Use a higher --ceiling, or a smaller --step.",
    ),
    "HW-Y005": (
        "The policy lacks what its kind needs, or has what its kind makes no use of.",
        "hwbus policy set --help and docs/policies.md tell what each kind takes.",
    ),
    "HW-Y006": (
        "A policy keeps its kind for life.",
        "Remove it first (hwbus policy rm NAME), or choose another name.",
    ),
    "HW-Y007": (
        "Another policy of that kind looks after exactly the same.",
        "Change that one, or select less: a narrower selection goes before a wider one.",
    ),
    "HW-Y008": (
        "The object is as large as its policy lets it become, and is filling up.",
        "Raise the ceiling of the policy, free room in the object, or grow it by hand.",
    ),
    "HW-Y009": (
        "An operation that a policy began has failed; the policy tries again when it is due.",
        "hwbus op ls --all shows the operation, hwbus policy pause NAME ends the attempts.",
    ),
}
