"""The site: what happened on the chain, said in plain words, with the evidence behind each number.

Read ``views`` for what each page says, ``journal`` for how chain events are kept, ``pages`` for how they become
pages, ``source`` for how the chain is followed, and ``application`` for the addresses.
Nothing here holds a key or sees a row.
"""
