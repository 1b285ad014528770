// Native work of different lengths at once, and timers between: the order of the ends.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_subtle", handler: async ({ input, ctx }) => {
  const order: string[] = [];
  const sizes = [3_000_000, 10, 500_000, 1000, 2_000_000];
  await Promise.all([
    ...sizes.map(async (size, i) => { const d = new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(size))); order.push(`d${i}:${d[0]}`); }),
    ...[0, 1, 2].map(async (ms) => { await ctx.sleep(ms); order.push(`s${ms}`); await crypto.subtle.digest("SHA-1", new Uint8Array(100_000 * (ms + 1))); order.push(`e${ms}`); }),
  ]);
  const key = await crypto.subtle.importKey("raw", crypto.getRandomValues(new Uint8Array(32)), "PBKDF2", false, ["deriveBits"]);
  const bits = await Promise.all([2000, 10, 500].map(async (iterations) => { const b = await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt: new Uint8Array(8), iterations }, key, 64); order.push(`p${iterations}`); return [...new Uint8Array(b)]; }));
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]) as CryptoKeyPair;
  return { order, bits, signed: [...new Uint8Array(await crypto.subtle.sign("Ed25519", pair.privateKey, new Uint8Array(3)))], n: input.n };
}});
