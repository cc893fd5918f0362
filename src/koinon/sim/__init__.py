"""The simulated world: clock, randomness, network and crashes from one seed.

Protocols are pure steps, so whatever drives them in a node can be replaced by this world, and one seed replays a whole
network. Scenarios live with what they test; only the world is here.
"""
