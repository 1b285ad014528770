// Zones, locales and formats of the machine.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_locale", handler: () => {
  const d = new Date();
  return [d.toString(), d.toLocaleString(), d.toLocaleString("tr-TR", { timeZone: "Asia/Tokyo" }), d.getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions(), Intl.NumberFormat().format(1234567.891), (1e21).toLocaleString(),
    ["ä", "z", "a", "Z"].sort(new Intl.Collator().compare), ["b", "a"].sort((a, b) => a.localeCompare(b)), new Intl.RelativeTimeFormat("en").format(-1, "day"), new Intl.PluralRules().select(2), navigator.language, new Date("2026-03-01 10:00").getTime(), new Intl.ListFormat().format(["a", "b"])];
}});
