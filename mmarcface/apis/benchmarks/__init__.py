"""Measurements of speed and memory, which tools/benchmark.py prints: a file for each subject."""
