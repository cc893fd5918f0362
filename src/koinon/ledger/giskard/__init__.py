"""Giskard: pipelined Byzantine fault tolerant consensus as a pure step function.

Read ``protocol.step`` first. ``rules`` holds every predicate that safety rests on, each with its label.
"""
