"""MLflow: where runs are kept and what is logged."""
