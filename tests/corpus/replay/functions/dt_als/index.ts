// AsyncLocalStorage across timers and races.
import { defineFunction } from "@flux/functions";
import { AsyncLocalStorage } from "node:async_hooks";

const store = new AsyncLocalStorage<string>();
export default defineFunction({ name: "dt_als", handler: async ({ input, ctx }) => {
  const seen: unknown[] = [];
  await Promise.all(["a", "b", "c"].map((name) => store.run(name + input.n, async () => { await ctx.sleep(Math.random() * 4); seen.push(store.getStore()); setTimeout(() => seen.push("t" + store.getStore()), 1); await fetch("http://127.0.0.1:4390/d?k=" + name); seen.push(store.getStore()); await ctx.sleep(3); })));
  return { seen, outside: store.getStore() ?? null };
}});
