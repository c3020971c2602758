"""The maths, as functions of tensors and arrays: no mm* package is imported here."""
