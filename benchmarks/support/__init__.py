"""What the benchmark scripts share: timing, models, tables, the textbook algorithm."""
