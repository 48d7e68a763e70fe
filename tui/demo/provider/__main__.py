"""``python -m agenttop.tui.demo.provider``: the mock provider as a process of its own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from .limits import PerMinute
from .pace import INSTANT
from .service import MockProvider


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agenttop.tui.demo.provider", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="written, whole or not at all, once it listens")
    parser.add_argument("--ready-fd", type=int, help="gets the port and a newline once it listens")
    parser.add_argument("--truth", type=Path, help="NDJSON, appended")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", default="1", help="a factor on the pace of life, or 'instant'")
    parser.add_argument("--key-file", type=Path, help="holds the only key that is accepted")
    parser.add_argument(
        "--requests", type=int, help="enforce this many requests a minute for each model class"
    )
    parser.add_argument("--input-tokens", type=int, help="enforce this many uncached input tokens a minute")
    parser.add_argument("--output-tokens", type=int, help="enforce this many output tokens a minute")
    return parser.parse_args(argv)


def parse_speed(text: str) -> float:
    """``instant``, or a factor above 0.

    Raises:
        ValueError: Anything else.
    """
    speed = INSTANT if text == "instant" else float(text)
    if not speed > 0:
        raise ValueError(f"speed {text} is not above 0")
    return speed


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    asked = {"requests": options.requests, "input": options.input_tokens, "output": options.output_tokens}
    enforced = {name: value for name, value in asked.items() if value is not None}
    provider = MockProvider(
        seed=options.seed,
        speed=parse_speed(options.speed),
        host=options.host,
        port=options.port,
        truth_file=options.truth,
        key=options.key_file.read_text().strip() if options.key_file else "",
        per_minute=PerMinute(**enforced),
        enforce_limits=bool(enforced),
    )
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with provider:
            _announce(options, provider.port)
            async for _ in signals:
                return


def _announce(options: argparse.Namespace, port: int) -> None:
    if options.port_file:
        scratch = options.port_file.with_suffix(".new")
        scratch.write_text(f"{port}\n")
        scratch.replace(options.port_file)
    if options.ready_fd is not None:
        os.write(options.ready_fd, f"{port}\n".encode())
        os.close(options.ready_fd)
    if not options.port_file and options.ready_fd is None:
        sys.stdout.write(f"http://{options.host}:{port}\n")
        sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    anyio.run(serve, _arguments(argv), backend_options={"use_uvloop": True})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
