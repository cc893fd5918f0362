"""Learning where the rows lie: owners train, and only sums of their updates are ever seen."""
