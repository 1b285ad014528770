// Object URLs, whose names the runtime draws itself.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_object_url", handler: async () => {
  const one = URL.createObjectURL(new Blob(["a"])), two = URL.createObjectURL(new Blob(["b"], { type: "text/plain" }));
  URL.revokeObjectURL(one);
  return { one, two, differ: one !== two };
}});
