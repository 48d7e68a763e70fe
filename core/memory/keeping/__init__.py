"""What the kernel does for its memory by itself: embeddings, summaries, retention, facts for the journal."""
