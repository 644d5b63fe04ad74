"""The site's policy: read whole or not at all, compared, described, never written by the hub."""
