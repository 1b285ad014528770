// Work that goes on after the answer.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_after", handler: async ({ input, ctx }) => {
  ctx.waitUntil((async () => { await ctx.sleep(Math.random() * 6); const r = await fetch("http://127.0.0.1:4390/d?k=w"); console.log("after", (await r.json()).v, Math.random()); await ctx.db.sql("insert into events (name, v) values ('after', $1)", [input.n]); })());
  ctx.waitUntil(Promise.all([1, 2].map(async (i) => { await ctx.sleep(i); ctx.log.info("w" + i, { t: performance.now() }); })));
  return Math.random();
}});
