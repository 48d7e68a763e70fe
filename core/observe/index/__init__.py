"""The scan index: what all transcripts on this machine told, by day, and the process that keeps it."""
