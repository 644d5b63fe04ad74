"""HTTP to wire and back: no SQL and no rules."""
