"""What a watched run is shown as: a tree of calls, a list of instructions, the state it found, what it accessed."""
