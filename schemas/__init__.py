"""The words this system speaks: every message, and nothing else."""
