"""Models that leak nothing and must leave without a person, within a run envelope."""
