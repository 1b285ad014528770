// Weak references, which tell of the garbage collector.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_weak", handler: async ({ ctx }) => {
  let fell = 0; const registry = new FinalizationRegistry(() => fell++);
  const refs = Array.from({ length: 200 }, (_, i) => { const big = { i, data: new Uint8Array(20_000) }; registry.register(big, i); return new WeakRef(big); });
  await ctx.sleep(2); for (let i = 0; i < 50; i++) new Uint8Array(500_000);
  await ctx.sleep(1);
  return { alive: refs.filter((r) => r.deref() !== undefined).length, fell };
}});
