"""What the validation asks of synthetic cells, one question a folder."""
