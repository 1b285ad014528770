// Timers of zero, microtasks and replies, in turn.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_zero", handler: async ({ ctx }) => {
  const order: string[] = [];
  for (let i = 0; i < 4; i++) { setTimeout(() => { order.push("t" + i); queueMicrotask(() => order.push("m" + i)); }, i % 2); void ctx.sleep(0).then(() => order.push("s" + i)); queueMicrotask(() => order.push("q" + i)); }
  const results = await Promise.allSettled([ctx.sleep(1), Promise.reject(new Error("no")), ctx.db.sql("select 1 as a"), ctx.sleep(2)]);
  await ctx.sleep(4);
  return { order, results: results.map((r) => r.status) };
}});
