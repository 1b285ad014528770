"""What an account did: called over HTTP, or run as a job after each transfer."""


async def handler(input, ctx):
    account = await ctx.db.fetchrow("select name, cents from accounts where name = $1", input["account"])
    if account is None:
        raise LookupError(f"there is no account {input['account']!r}")
    transfers = await ctx.db.fetch(
        "select id, sender, receiver, cents from transfers where $1 in (sender, receiver) order by id",
        account["name"],
    )
    ctx.log.info("statement", account=account["name"], transfers=len(transfers))
    return {"account": account, "transfers": transfers}
