"""Programs whose outputs follow from sums over rows: what every owner adds up, and what the totals are turned into."""
