"""The wires: carry messages, keep the log, know the grammar and no storage words."""
