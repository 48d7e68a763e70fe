"""The kernel's side of the bus: mailboxes follow agents, who may write to whom, and what people see of it.

The bus itself (``core/bus``) knows names of mailboxes only. In here those are agents' ids, and ``@NAME``
for people.
"""
