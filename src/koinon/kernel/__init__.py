"""Quantities, identifiers, codec, errors and effects: what every other room stands on."""
