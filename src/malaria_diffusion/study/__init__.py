"""A study from images to its report, in one process and without Kedro."""
