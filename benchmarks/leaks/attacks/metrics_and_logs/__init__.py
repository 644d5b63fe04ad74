"""Values, names and lines that spell rows."""
