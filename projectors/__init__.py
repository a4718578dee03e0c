"""Memory: turn what happened into what people ask about."""
