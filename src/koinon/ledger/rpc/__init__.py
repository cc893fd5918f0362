"""JSON-RPC of the ledger: what Ethereum's tools speak, and the methods of our own that prove finality.

Read it from the outside in: ``server`` takes connections, ``http`` and ``websocket`` take requests off them,
``protocol`` answers one request or a batch, ``table`` says which methods there are, and every other module holds the
methods of one subject. ``readers`` turn JSON into values, ``forms`` turn values into JSON.
"""
