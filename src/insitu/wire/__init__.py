"""Promises to another machine: versioned documents and their signatures, and no behaviour."""
