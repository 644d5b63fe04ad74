"""Fakes and builders that tests of this package, and of packages built on it, may use."""
