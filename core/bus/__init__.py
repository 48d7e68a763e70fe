"""The message bus: mailboxes, topics, requests and replies. ``bus.py`` is its door inside the kernel.

Everything durable is in a store of its own (``mail.db``), never in the journal: mail can be forgotten.
"""
