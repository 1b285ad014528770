# ruff: noqa: E501 - TypeScript inside
"""`node:crypto` in a function: digests and MACs are Node's, random numbers are the invocation's, the rest is not there."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from flux.errors import FunctionError
from flux.runtime.pool import SubprocessEngine
from tests.integration.runtime.local_guest import ScriptedHost, deployment, engine, invocation, run

WEBHOOK = """
import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
export default ({ ctx }: any) => {
  const given = Buffer.from(ctx.request.headers.get("x-signature") ?? "", "hex");
  const right = createHmac("sha256", "whsec").update(ctx.request.bytes()).digest();
  return given.length === right.length && timingSafeEqual(given, right);
};
"""
DIGESTS = """
import { Buffer } from "node:buffer";
import crypto, { createHash, createHmac, hash, hkdfSync, pbkdf2Sync, scryptSync, timingSafeEqual } from "crypto";
export default ({ input }: any) => {
  const started = createHash("sha1").update("a");
  const copied = started.copy();
  return {
    sha256: createHash("sha256").update(input.text, "utf8").update(new Uint8Array([1, 2])).digest("hex"),
    sha512: crypto.createHash("sha512").update(Buffer.from(input.text)).digest("base64url"),
    md5: hash("md5", input.text), copied: copied.update("b").digest("hex"), started: started.update("c").digest("hex"),
    hmac: createHmac("sha1", Buffer.from("k")).update(input.text).digest("base64"),
    pbkdf2: pbkdf2Sync("p", "s", 10, 16, "sha256").toString("hex"), scrypt: scryptSync("p", "s", 16).toString("hex"),
    hkdf: Buffer.from(hkdfSync("sha256", "k", "s", "i", 16)).toString("hex"), stream: typeof (started as any).pipe,
    unequal: timingSafeEqual(Buffer.from("a"), Buffer.from("b")), same: crypto.webcrypto === globalThis.crypto,
  };
};
"""
RANDOM = """
import crypto, { randomBytes, randomFillSync, randomInt, randomUUID, webcrypto } from "node:crypto";
export default async () => [randomBytes(8).toString("hex"), randomUUID(), randomInt(10), randomInt(2 ** 40, 2 ** 41),
  [...randomFillSync(new Uint16Array(4), 1, 2)], [...crypto.getRandomValues(new Uint8Array(3))], webcrypto.randomUUID(),
  await new Promise((done) => randomBytes(4, (_, bytes) => done(bytes.toString("hex"))))];
"""


@pytest.fixture(name="deno")
async def _deno(tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(tmp_path) as made:
        yield made


async def test_a_webhook_is_verified_over_its_raw_body(deno: SubprocessEngine) -> None:
    guest = await deno.load(deployment(WEBHOOK))
    body = b'{"id": 1,\n  "amount": 1.00}'
    right = hmac.new(b"whsec", body, hashlib.sha256).hexdigest()
    answers = []
    for sent, signature in ((body, right), (body + b" ", right), (body, "00")):
        given = invocation(body=sent, headers=[("x-signature", signature)])
        answers.append(orjson.loads((await guest.invoke(given, ScriptedHost())).body))
    assert answers == [True, False, False]


async def test_digests_are_what_every_other_library_says(deno: SubprocessEngine) -> None:
    found = await run(await deno.load(deployment(DIGESTS)), {"text": "Grüße"})
    data = "Grüße".encode()
    assert found["sha256"] == hashlib.sha256(data + b"\x01\x02").hexdigest()
    assert found["md5"] == hashlib.md5(data).hexdigest()
    assert found["copied"] == hashlib.sha1(b"ab").hexdigest()
    assert found["started"] == hashlib.sha1(b"ac").hexdigest()
    assert found["pbkdf2"] == hashlib.pbkdf2_hmac("sha256", b"p", b"s", 10, 16).hex()
    assert found["scrypt"] == hashlib.scrypt(b"p", salt=b"s", n=16384, r=8, p=1, dklen=16).hex()
    assert (found["stream"], found["unequal"], found["same"]) == ("undefined", False, True)


async def test_random_numbers_are_the_invocations(deno: SubprocessEngine) -> None:
    guest = await deno.load(deployment(RANDOM))
    first = await run(guest)
    assert await run(guest) == first
    other = await run(guest, seed=bytes(32))
    assert all(mine != others for mine, others in zip(first[:2], other[:2], strict=True))
    assert 0 <= first[2] < 10
    assert 2**40 <= first[3] < 2**41
    assert (first[4][0], first[4][3]) == (0, 0)


@pytest.mark.parametrize(
    "name", ["generateKeyPairSync", "createSign", "createCipheriv", "randomPrime", "createECDH"]
)
async def test_what_brings_a_random_of_its_own_is_not_there(deno: SubprocessEngine, name: str) -> None:
    with pytest.raises(FunctionError, match=name):
        await deno.load(
            deployment(f'import {{ {name} as x }} from "node:crypto";\nexport default () => typeof x;')
        )
