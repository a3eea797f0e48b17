"""One function a figure: arrays and tables in, a matplotlib Figure out. Nothing here knows Kedro or MLflow."""
