"""What data scientists import: a synchronous client of the hub that signs what it submits."""
