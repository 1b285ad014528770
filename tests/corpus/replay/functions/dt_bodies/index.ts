// Bodies made of blobs read at once, and replies between.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_bodies", handler: async ({ ctx }) => {
  const order: string[] = [];
  const blob = (n: number) => new Blob(["x".repeat(n), new Blob(["y".repeat(n)])]);
  const mark = async (name: string, work: Promise<unknown>) => { await work; order.push(name); };
  await Promise.all([
    mark("text", new Response(blob(400_000)).text()), mark("buffer", new Request("http://x.test/", { method: "PUT", body: blob(10) }).arrayBuffer()),
    mark("blob", new Response(blob(1000)).blob()), mark("bytes", blob(100_000).bytes()), mark("slice", blob(50_000).slice(3, 40_000).text()),
    mark("json", Response.json({ a: 1 }).json()), mark("clone", new Response(blob(9)).clone().text()),
    (async () => { const reader = blob(70_000).stream().getReader(); for (let r = await reader.read(); !r.done; r = await reader.read()) order.push(`chunk${r.value.length}`); })(),
    (async () => { const reader = new Response(blob(70_000)).body!.getReader(); for (let r = await reader.read(); !r.done; r = await reader.read()) order.push(`body${r.value.length}`); })(),
    ...[0, 1, 2].map((k) => mark("f" + k, fetch("http://127.0.0.1:4390/d?k=" + k).then((r) => r.json()))), ...[0, 1].map((ms) => mark("s" + ms, ctx.sleep(ms))),
  ]);
  return order;
}});
