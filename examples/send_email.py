"""Send mail: "later" is tried again for hours, "no such address" fails at once.

    export SMTP_HOST=127.0.0.1 SMTP_PORT=25          # your mail server; the workers read these
    tq daemon start --app examples/send_email.py
    python examples/send_email.py ada@example.org --subject Hello --text "It works."

A mail server answers 4xx for "not now" and 5xx for "never", and an attempt that was cut short may have sent the mail
already. So: retries with growing pauses on the first, `tq.Permanent` on the second, and a Message-ID made from the
task's id, the same in every attempt, by which the server at the other end can drop the repeat.
"""

from __future__ import annotations

import argparse
import os
import smtplib
import socket
from email.message import EmailMessage

import tq

HOST, PORT = os.environ.get("SMTP_HOST", "127.0.0.1"), int(os.environ.get("SMTP_PORT", "25"))
SENDER = os.environ.get("SMTP_SENDER", "tq@localhost")


# OSError is what smtplib and sockets raise; anything else is a mistake in here or in the payload, which no retry mends.
@tq.task("send_email", queue="mail", timeout="1m", retries=20, retry_for="4h", retry_on=OSError)
def send_email(to: str, subject: str, text: str) -> str:
    """Send one mail; gives its Message-ID."""
    now = tq.current()
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, to, subject
    mail["Message-ID"] = f"<task-{now.id}.{SENDER}>"
    mail.set_content(text)
    try:
        with smtplib.SMTP(HOST, PORT, local_hostname=socket.gethostname(), timeout=20) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        code, reason = next(iter(refused.recipients.values()))
        give_up_if_final(code, reason)
        raise
    except smtplib.SMTPResponseException as refused:
        give_up_if_final(refused.smtp_code, refused.smtp_error)
        raise
    now.logger.info("sent to %s in attempt %d", to, now.attempt)
    return str(mail["Message-ID"])


def give_up_if_final(code: int, reason: bytes | str) -> None:
    """tq.Permanent if the server said never."""
    words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    if code >= 500:
        raise tq.Permanent(f"{HOST}:{PORT} refuses it for good: {code} {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a mail into the queue and wait until it is sent.")
    parser.add_argument("to")
    parser.add_argument("--subject", default="Hello")
    parser.add_argument("--text", default="This came through a durable queue.")
    options = parser.parse_args()
    task = send_email.enqueue(options.to, subject=options.subject, text=options.text)
    print(f"task {task.id} is on disk: the mail will be sent, whatever happens to this program")
    print("sent as", task.result(timeout="5m"))


if __name__ == "__main__":
    main()
