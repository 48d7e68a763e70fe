"""The control API: what people's side asks of a kernel, over a Unix socket; both of its ends."""
