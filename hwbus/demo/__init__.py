"""The story of the whole system, told with real commands and checked against the real kernel."""
