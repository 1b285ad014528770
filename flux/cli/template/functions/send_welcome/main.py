"""Runs as a job: create_user pushes it, with the new user's id."""


async def handler(input, ctx):
    user = await ctx.db.fetchrow("select id, email from users where id = $1", input["userId"])
    if user is None:
        raise LookupError(f"there is no user {input['userId']}")
    ctx.log.info("welcome", email=user["email"])
    await ctx.db.execute("update users set welcomed_at = now() where id = $1", user["id"])
    return {"welcomed": user["email"]}
