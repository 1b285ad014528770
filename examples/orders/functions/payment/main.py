"""Takes the money for an order: `{status: "paid", charge_id}` or `{status: "declined", reason}`.

Called by checkout with `ctx.invoke`, which waits for the answer.
"""

import httpx


class ProviderFailed(Exception):
    """The provider answered neither yes nor no. It may or may not have taken the money."""


async def handler(input, ctx):
    key = await ctx.secrets.get("PROVIDER_KEY")
    async with httpx.AsyncClient(
        base_url=ctx.env["PROVIDER_URL"],
        headers={"authorization": f"Bearer {key}"},
        timeout=float(ctx.env["PAYMENT_SECONDS"]),
    ) as provider:
        answer = await provider.post(
            "/charges",
            json={"amount": input["cents"], "card": input["card"]},
            # The order's, not this attempt's: paying for the same order again takes no money twice.
            headers={"idempotency-key": input["reference"]},
        )
    if answer.status_code == 402:
        reason = answer.json()["reason"]
        ctx.log.info("declined", reference=input["reference"], reason=reason)
        return {"status": "declined", "reason": reason}
    if answer.status_code != 201:
        raise ProviderFailed(f"the provider answered {answer.status_code}: {answer.text}")
    return {"status": "paid", "charge_id": answer.json()["id"]}
