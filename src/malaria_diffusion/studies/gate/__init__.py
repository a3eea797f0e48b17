"""A gate for models: thresholds on what the validation found, agreed on before, that a model passes or not."""
