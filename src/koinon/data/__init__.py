"""Tables of rows: reading and checking them whole, public column ranges, salted commitments, the demonstration rows."""
