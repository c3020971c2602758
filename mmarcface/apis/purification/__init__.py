"""Purification: finding the mislabeled samples of a training set."""
