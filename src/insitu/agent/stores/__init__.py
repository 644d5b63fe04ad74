"""Object stores at a site: one contract, and the ways to speak to folders, Azure Blob and S3."""
