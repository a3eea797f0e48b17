"""Is the synthetic data any good: the classifier, and tests with floors and intervals. Never imports Kedro."""
