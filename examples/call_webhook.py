"""Call a webhook: trouble on their side is tried again, a request they refuse is not.

    tq daemon start --app examples/call_webhook.py
    python examples/call_webhook.py http://127.0.0.1:8080/hook '{"event": "order paid", "order": 17}'

What the other side says decides: 2xx is done; 429 and 5xx (and no answer at all) are tried again, after `Retry-After`
seconds where it asks for that; any other answer, a redirect too, would be the same next time: `tq.Permanent`. Every attempt
carries the same `Idempotency-Key`, since one whose answer was lost may have been heard.
"""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import tq


@dataclass(frozen=True)
class Webhook:
    """Where to, and what: ``event`` is sent as JSON."""

    url: str
    event: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the other side said."""

    status: int
    attempt: int


class CallWebhook(tq.Task[Webhook, Answer]):
    """POST an event to an address."""

    type = "call_webhook"
    queue = "webhooks"
    timeout = "30s"  # of the whole attempt; a server that sends one byte a minute would get around the socket's own
    retries = 10
    retry_for = "1d"
    retry_on = (OSError, http.client.HTTPException)  # URLError, a refused connection and a timeout are all OSError

    def execute(self, payload: Webhook) -> Answer:
        now = tq.current()
        if not payload.url.startswith(("http://", "https://")):
            raise tq.Permanent(f"expected an address that starts with http:// or https://, got {payload.url[:200]!r}")
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"tq-{now.id}"}
        request = urllib.request.Request(payload.url, json.dumps(payload.event).encode(), headers)  # noqa: S310 - checked above
        try:
            with ONE_HOP.open(request, timeout=10) as answer:
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                words = f"{error.code} {error.reason}"
                wait = error.headers.get("Retry-After", "")
            if error.code == 429 or error.code >= 500:
                raise tq.Retry(words, after=min(int(wait), 3600) if wait.isascii() and wait.isdigit() else None) from None
            raise tq.Permanent(f"{payload.url} refuses it: {words}") from None
        now.logger.info("%s answered %d", payload.url, status)
        return Answer(status, now.attempt)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the redirect is the answer. A POST that is redirected would arrive as a GET, and who knows where."""


ONE_HOP = urllib.request.build_opener(_NoRedirect)


def main() -> None:
    parser = argparse.ArgumentParser(description="Call a webhook through the queue.")
    parser.add_argument("url")
    parser.add_argument("event", type=json.loads, help="a JSON object")
    options = parser.parse_args()
    task = CallWebhook.enqueue(Webhook(options.url, options.event))
    print(f"task {task.id} is on disk")
    answer = task.result(timeout="5m")
    print(f"{answer.status} in attempt {answer.attempt}")


if __name__ == "__main__":
    main()
