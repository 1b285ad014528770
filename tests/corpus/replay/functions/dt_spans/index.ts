// Spans of work done at once, and logs inside.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_spans", handler: async ({ ctx }) => {
  const order: string[] = [];
  const work = (name: string, ms: number) => ctx.trace.span(name, async () => { await ctx.sleep(ms); console.log(name); await ctx.trace.span(name + ".in", async () => { await ctx.sleep(ms / 2); if (ms === 2) throw new Error("in " + name); }); order.push(name); }, { ms });
  const ends = await Promise.allSettled([work("a", 3), work("b", 2), work("c", 1), work("d", Math.random() * 4)]);
  return { order, ends: ends.map((e) => e.status) };
}});
