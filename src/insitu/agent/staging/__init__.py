"""Data put ready for jobs: from a datastore into a cache at the site, verified, and from there into sandboxes."""
