"""The site: what happened on the chain, said in plain words, with the evidence behind each number.

Read ``views`` for what each page says, ``facts`` and ``fold`` for how chain events become facts, ``source`` for how facts
become pages, and ``application`` for the pages themselves. Nothing here holds a key or sees a row.
"""
