"""What each owner's data was worth to a joint model, and what share of its revenue follows."""
