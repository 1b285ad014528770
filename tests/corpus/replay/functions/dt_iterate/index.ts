// Async generators over timers, in a race.
import { defineFunction } from "@flux/functions";

async function* ticks(name: string, ctx: any, n: number) { try { for (let i = 0; i < n; i++) { await ctx.sleep(Math.random() * 3); yield name + i; } } finally { ctx.log.info("closed " + name); } }
export default defineFunction({ name: "dt_iterate", handler: async ({ ctx }) => {
  const seen: string[] = [];
  const drain = async (it: AsyncIterable<string>, most: number) => { for await (const x of it) { seen.push(x); if (--most === 0) break; } };
  await Promise.all([drain(ticks("a", ctx, 4), 9), drain(ticks("b", ctx, 9), 3), drain(ticks("c", ctx, 2), 9)]);
  return { seen, array: await Array.fromAsync([ctx.sleep(2).then(() => 1), 2, ctx.sleep(0).then(() => 3)]) };
}});
