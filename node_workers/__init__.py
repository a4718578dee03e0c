"""Hands: turn what was decided into what is, on one node."""
