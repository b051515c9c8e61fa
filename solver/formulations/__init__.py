"""Mathematical models; a file per model, whose docstring is the model."""
