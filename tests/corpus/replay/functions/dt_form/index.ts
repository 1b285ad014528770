// Boundaries of multipart bodies, which the runtime draws itself.
import { defineFunction } from "@flux/functions";

const form = () => { const f = new FormData(); f.set("a", "1"); f.append("file", new File(["x".repeat(5000)], "ü.txt", { type: "text/plain" })); f.append("b", "zwei\nZeilen"); return f; };
export default defineFunction({ name: "dt_form", handler: async ({ ctx }) => {
  const response = new Response(form()), request = new Request("http://x.test/", { method: "POST", body: form() });
  const texts = await Promise.all([response.text(), request.text()]);
  const back = await new Response(form()).formData();
  const sent = await (await fetch("http://127.0.0.1:4390/echo", { method: "POST", body: form() })).json();
  ctx.log.info("form", { sent });
  return { types: [response.headers.get("content-type"), request.headers.get("content-type")], texts, keys: [...back.keys()], file: (back.get("file") as File).size };
}});
