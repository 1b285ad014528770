// Module state that concurrent invocations share, over calls only.
import { defineFunction } from "@flux/functions";

let count = 0; const last: number[] = []; const cache = new Map<number, Promise<unknown>>();
export default defineFunction({ name: "dt_module", handler: async ({ input, ctx }) => {
  const mine = ++count; last.push(input.n); const k = input.n % 3;
  if (!cache.has(k)) cache.set(k, fetch("http://127.0.0.1:4390/d?k=" + k).then((r) => r.json()));
  await ctx.sleep(Math.random() * 5);
  return { mine, now: count, last: last.slice(-4), cached: [...cache.keys()] };
}});
