"""The two models as MLflow serves them; this package imports neither Kedro nor the pipelines."""
