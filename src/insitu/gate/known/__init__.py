"""The index of known data: built when a dataset version is added, keyed, kept at the site, never changed."""
