"""Decisions, and only decisions: no clock, no disk, no network."""
