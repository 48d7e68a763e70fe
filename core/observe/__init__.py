"""Agents that were running before anybody asked: found in /proc, read from their transcripts.

What is read here meters observed agents and history only; managed agents are metered by the gateway.
"""
