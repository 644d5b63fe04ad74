"""Figures as ratios, each against a reference measured in the same run. See README.md; these are no tests."""
