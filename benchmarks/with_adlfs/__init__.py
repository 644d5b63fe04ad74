"""What people use today to bring Azure blobs to a disk, in an environment of its own: it wants older parts than ours."""
