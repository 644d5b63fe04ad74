"""Mode `direct`: a job reads objects of a datastore by ranges, and nothing of them is kept at the site."""
