"""Images back from a trained model."""
