# Module state that concurrent invocations share.
import itertools

numbers = itertools.count(1)
last = []


async def handler(input, ctx):
    mine = next(numbers)
    last.append(input["n"])
    await ctx.sleep(mine % 4)
    return [mine, last[-4:], len(last)]
