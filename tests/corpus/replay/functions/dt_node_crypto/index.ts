// node:crypto, its random numbers and callbacks.
import { defineFunction } from "@flux/functions";
import { createHash, createHmac, randomBytes, randomInt, randomUUID } from "node:crypto";

export default defineFunction({ name: "dt_node_crypto", handler: async ({ ctx }) => {
  const order: string[] = [];
  await Promise.all([new Promise<void>((done) => randomBytes(9, (_, b) => { order.push(b!.toString("hex")); done(); })), ctx.sleep(0).then(() => order.push("s")), Promise.resolve().then(() => order.push("m"))]);
  return { order, r: [randomInt(1000), randomUUID(), randomBytes(4).toString("hex")], h: createHash("sha256").update("x").digest("hex"), m: createHmac("sha1", "k").update("x").digest("base64") };
}});
