"""Clients: ``KernelClient`` for people's side, ``Agent`` and ``AsyncAgent`` for programs that are agents."""

from __future__ import annotations

from .kernel import KernelClient

__all__ = ["KernelClient"]
