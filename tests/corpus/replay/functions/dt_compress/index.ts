// Compression streams at once, and replies between.
import { defineFunction } from "@flux/functions";

const pack = async (size: number) => new Uint8Array(await new Response(new Blob(["ab".repeat(size)]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer());
const open = async (bytes: Uint8Array<ArrayBuffer>) => (await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text()).length;
export default defineFunction({ name: "dt_compress", handler: async ({ ctx }) => {
  const order: string[] = [];
  await Promise.all([300_000, 10, 20_000].map(async (size) => { const bytes = await pack(size); order.push(`c${size}:${bytes.length}`); order.push(`o${await open(bytes)}`); })
    .concat([1, 2, 3].map(async (k) => { const r = await fetch("http://127.0.0.1:4390/d?k=" + k); order.push(`f${k}`); await r.text(); order.push(`t${k}`); })));
  return { order, t: performance.now() };
}});
