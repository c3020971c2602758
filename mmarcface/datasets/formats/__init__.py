"""Readers and writers of files; nothing here is registered."""
