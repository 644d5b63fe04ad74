"""Canonical copies: what leaves is written anew, from an allow-list of each format's fields."""
