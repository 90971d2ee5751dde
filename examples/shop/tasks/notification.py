"""Tell a customer something, by mail or by SMS."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Literal

import tq
from examples.shop.outside import MAIL, SMS, Unavailable, address, post


@dataclass(frozen=True)
class Notification:
    """``to`` is a mail address or a telephone number, as ``by`` says."""

    by: Literal["email", "sms"]
    to: str
    text: str


@dataclass(frozen=True)
class Sent:
    by: str
    reference: str


class NotificationTask(tq.Task[Notification, Sent]):
    """Hand the text to the mail server or the SMS gateway."""

    type = "notification"
    queue = "shop"
    priority = "medium"
    retries = 10
    timeout = "30s"
    retry_on = (Unavailable, OSError)  # a mail server's troubles are OSError

    def execute(self, payload: Notification) -> Sent:
        key = f"notification-{tq.current().id}"
        if payload.by == "sms":
            return Sent("sms", str(post(SMS, "/messages", {"to": payload.to, "text": payload.text}, key)["id"]))
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "shop@example.org", payload.to, payload.text
        mail["Message-ID"] = f"<{key}@shop.example.org>"  # the same in every attempt, so that a repeat can be dropped
        mail.set_content(f"{payload.text}\n\nYour shop\n")
        host, _, port = address(MAIL).rpartition(":")
        with smtplib.SMTP(host, int(port), local_hostname="shop.example.org", timeout=5) as server:
            server.send_message(mail)
        return Sent("email", mail["Message-ID"])
