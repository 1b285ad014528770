"""Sends mixed orders, good and bad, to a running server, and says what came of them.

    python drive.py [--requests 200] [--seed 1] [--at-once 8] [--url http://127.0.0.1:4000]

The same seed sends the same orders in the same order. Each kind has the statuses that are right for it; an
answer with another one ends this with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

KINDS = {
    # kind: (how many of 200, statuses that are right, what it is)
    "paid": (88, {200}, "an ordinary order"),
    "slow": (16, {200}, "the provider takes its time"),
    "busy_mail": (4, {200}, "the receipt is refused once: the job tries again"),
    "declined": (22, {402}, "the provider declines the card"),
    "broken": (12, {500}, "the provider fails"),
    "silent": (4, {500}, "the provider doesn't answer in time"),
    "too_many": (12, {409}, "more than there is: a CHECK refuses"),
    "last_ones": (8, {200, 409}, "eight want the last three"),
    "unknown": (8, {422}, "there is no such product"),
    "twice": (10, {409}, "an order that was placed before: a UNIQUE refuses"),
    "invalid": (10, {422}, "no address, no items, a quantity of 0"),
    "malformed": (6, {400}, "not JSON"),
}
CARDS = {"slow": "card_slow", "declined": "card_declined", "broken": "card_broken", "silent": "card_silent"}
SKUS = ["tea-assam", "tea-sencha", "tea-oolong", "tea-earl-grey", "tea-rooibos", "pot-iron", "cup-plain"]
SCARCE = "cup-raku"
# What an order whose payment hangs wants is locked meanwhile: such orders want what nobody else does.
SELDOM = ["tea-pu-erh", "pot-glass", "strainer", "whisk"]


@dataclass
class Sent:
    """One request and its answer."""

    kind: str
    reference: str
    content: bytes
    after: int | None = None
    """The request that must have been answered before this one is sent, by its place."""
    status: int = 0
    request_id: str = ""
    body: Any = None
    ms: float = 0.0
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def document(self) -> dict[str, Any]:
        """This as JSON can hold it."""
        return {name: value for name, value in vars(self).items() if name != "answered"} | {
            "content": self.content.decode()
        }


def plan(count: int, seed: int, prefix: str) -> list[Sent]:
    """The requests, in the order in which they are sent."""
    dice = random.Random(seed)
    deck = [kind for kind, (share, _, _) in KINDS.items() for _ in range(share)]
    kinds: list[str] = []
    while len(kinds) < count:
        dice.shuffle(deck)
        kinds += deck
    del kinds[count:]
    kinds.remove("paid")
    kinds.insert(0, "paid")  # so that there is something to send twice
    requests: list[Sent] = []
    for place, kind in enumerate(kinds):
        reference = f"{prefix}-{place:04}"
        after = None
        if kind == "twice":
            after = dice.choice([at for at, sent in enumerate(requests) if sent.kind == "paid"])
            reference = requests[after].reference
        requests.append(Sent(kind, reference, _content(kind, reference, place, dice), after))
    return requests


def _content(kind: str, reference: str, place: int, dice: random.Random) -> bytes:
    picked = dice.sample(SKUS, dice.randint(1, 3))
    items = [{"sku": sku, "quantity": dice.randint(1, 4)} for sku in picked]
    name = dice.choice(["ada", "grace", "edsger", "barbara"])
    if kind == "too_many":
        items[-1]["quantity"] = 1_000_000
    elif kind == "silent":
        items = [{"sku": SELDOM[place % len(SELDOM)], "quantity": 1}]
    elif kind == "last_ones":
        items = [{"sku": SCARCE, "quantity": 1}]
    elif kind == "unknown":
        items.append({"sku": "tea-unicorn", "quantity": 1})
    order: dict[str, Any] = {
        "reference": reference,
        "email": f"{'busy' if kind == 'busy_mail' else name}@example.com",
        "card": {"token": CARDS.get(kind, "card_ok"), "holder": f"{name.title()} Lovegood"},
        "items": items,
    }
    if kind == "invalid":
        order |= dice.choice(
            [{"email": "nobody"}, {"items": []}, {"items": [{"sku": SKUS[0], "quantity": 0}]}]
        )
    text = json.dumps(order)
    return (text[: dice.randint(10, len(text) - 1)] if kind == "malformed" else text).encode()


async def drive(url: str, requests: list[Sent], at_once: int) -> None:
    """Send them, `at_once` at a time; what came stands in them afterwards."""
    waiting = iter(requests)
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        await asyncio.gather(*(_customer(client, waiting, requests) for _ in range(at_once)))


async def _customer(client: httpx.AsyncClient, waiting: Iterator[Sent], requests: list[Sent]) -> None:
    for sent in waiting:
        if sent.after is not None:
            await requests[sent.after].answered.wait()
        began = time.perf_counter()
        answer = await client.post(
            "/checkout", content=sent.content, headers={"content-type": "application/json"}
        )
        sent.ms = (time.perf_counter() - began) * 1000
        sent.status = answer.status_code
        sent.request_id = answer.headers["x-request-id"]
        sent.body = answer.json()
        sent.answered.set()


def summary(requests: list[Sent], seconds: float) -> Iterator[str]:
    """What was sent and what came, by kind, and what to ask Flux about it."""
    yield f"{'kind':11}{'requests':>9}  {'statuses':20}{'median':>9}  what it is"
    ask = []
    for kind, (_, right, what) in KINDS.items():
        these = [sent for sent in requests if sent.kind == kind]
        if not these:
            continue
        counts = {
            status: sum(sent.status == status for sent in these)
            for status in sorted({s.status for s in these})
        }
        statuses = ", ".join(f"{number} x {status}" for status, number in counts.items())
        wrong = "" if right >= counts.keys() else "  <- not what it should be"
        median = sorted(sent.ms for sent in these)[len(these) // 2]
        yield f"{kind:11}{len(these):>9}  {statuses:20}{median:>6.0f} ms  {what}{wrong}"
        failed = [sent for sent in these if sent.status != 200]
        if failed:
            ask.append(f"  flux why {failed[-1].request_id[:8]}   # {kind}: {failed[-1].status}")
    yield ""
    yield f"{len(requests)} requests in {seconds:.1f} s"
    if ask:
        yield "\nask Flux why:"
        yield from ask


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--url", default="http://127.0.0.1:4000")
    parser.add_argument("--json", metavar="FILE", help="also write each request and its answer there")
    given = parser.parse_args()
    # References are new in every run: an order is placed once.
    requests = plan(given.requests, given.seed, f"{given.seed}-{time.time_ns() // 10**6:x}")
    began = time.perf_counter()
    asyncio.run(drive(given.url, requests, given.at_once))
    print("\n".join(summary(requests, time.perf_counter() - began)))
    if given.json:
        with open(given.json, "w") as file:
            json.dump([sent.document() for sent in requests], file)
    return 0 if all(sent.status in KINDS[sent.kind][1] for sent in requests) else 1


if __name__ == "__main__":
    sys.exit(main())
