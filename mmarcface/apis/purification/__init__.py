"""The samples of a training set that are not of their class."""
