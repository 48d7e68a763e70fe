"""The journal: events, the chain, the writer, the fold."""
