"""An agent that makes streamed model calls for ever. Standard library only, so that fifty are light."""

import http.client
import json
import os
import sys
import time
from urllib.parse import urlsplit

URL = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
BODY = json.dumps(
    {
        "model": "claude-haiku-4-5",
        "max_tokens": 400,
        "stream": True,
        "messages": [{"role": "user", "content": f"[[mock:output=60]] go on, {sys.argv[1]}"}],
    }
)
HEADERS = {
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    "x-api-key": "none",
    "x-agent": sys.argv[1],
}


def call() -> str:
    connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=60)
    try:
        connection.request("POST", f"{URL.path}/v1/messages", BODY, HEADERS)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    return (
        "ok" if response.status == 200 and b"message_stop" in text else f"{response.status} {text[-200:]!r}"
    )


while True:
    try:
        print(call(), flush=True)
    except (OSError, http.client.HTTPException) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        time.sleep(0.05)
