"""Sends an order's receipt.

A job, pushed in checkout's transaction: it runs for the orders that exist, and for no others.
"""

import httpx


async def handler(input, ctx):
    order = await ctx.db.fetchrow(
        "select id, reference, email, total_cents from orders where id = $1", int(input["order"])
    )
    items = await ctx.db.fetch(
        "select i.quantity, p.name, i.price_cents from order_items i join products p using (sku) "
        "where i.order_id = $1 order by sku",
        order["id"],
    )
    lines = [f"{item['quantity']} x {item['name']}  {item['price_cents'] / 100:.2f}" for item in items]
    async with httpx.AsyncClient(base_url=ctx.env["PROVIDER_URL"]) as mail:
        sent = await mail.post(
            "/messages",
            json={
                "to": order["email"],
                "text": "\n".join([*lines, f"total {order['total_cents'] / 100:.2f}"]),
            },
            # A job runs at least once. With the same key the post office takes a letter once.
            headers={"idempotency-key": f"receipt-{order['reference']}"},
        )
    sent.raise_for_status()
    await ctx.db.execute(
        "insert into receipts (order_id, message_id) values ($1, $2) on conflict do nothing",
        order["id"],
        sent.json()["id"],
    )
    return {"message": sent.json()["id"]}
