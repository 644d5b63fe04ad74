"""Row evidence: do numbers or text that would leave spell rows of a dataset, in any order, layout or scale?"""
