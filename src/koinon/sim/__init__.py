"""The simulated world: clock, randomness, network and crashes from one seed."""
