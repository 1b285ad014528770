// Clones, orders of keys, sorts and numbers.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_clone", handler: ({ input }) => {
  const clone = structuredClone({ d: new Date(), m: new Map([["z", 1], ["a", 2]]), s: new Set([3, 1]), e: new Error("e"), b: new Uint8Array(3), r: /x/g });
  const many = Array.from({ length: 300 }, () => ({ k: Math.floor(Math.random() * 9), u: Math.random() })).sort((a, b) => a.k - b.k);
  const groups = Object.groupBy(many, ({ k }) => "g" + k);
  return { keys: Object.keys({ ...input, 3: 1, b: 2, 1: 3 }), m: [...clone.m], s: [...clone.s], stack: clone.e.stack, many: many.slice(0, 20), sizes: Object.entries(groups).map(([k, v]) => [k, v!.length]), f: [0.1 + 0.2, Math.sin(1e6), Math.pow(2, 0.5), -0, 1 / 3], sym: String(Symbol("x")) };
}});
