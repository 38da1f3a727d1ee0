"""What a symbol-day costs: the product's functions and a Dagster run against the leanest script for the same files."""
