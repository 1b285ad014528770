// The clock that user code sees: it stands still but for the replies of the host, each of which carries the time. Patches Date,
// performance, Temporal.Now, Intl.DateTimeFormat's default, Event.timeStamp and File.lastModified. Time zone and locale are set by the launcher.

import { sources } from "./invocation.ts";
import { floor, ObjectDefineProperty, RealDate, ReflectApply, ReflectConstruct } from "./primordials.ts";

const milliseconds = (): number => floor(sources().now / 1000);

function hide(target: object, name: PropertyKey, value: unknown): void {
  ObjectDefineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
}

function installDate(): void {
  const toString = RealDate.prototype.toString;
  function FluxDate(...args: unknown[]): unknown {
    if (new.target === undefined) return ReflectApply(toString, new RealDate(milliseconds()), []);
    return ReflectConstruct(RealDate, args.length === 0 ? [milliseconds()] : args, new.target);
  }
  hide(FluxDate, "name", "Date");
  hide(FluxDate, "length", 7);
  hide(FluxDate, "now", function now() {
    return milliseconds();
  });
  hide(FluxDate, "parse", RealDate.parse);
  hide(FluxDate, "UTC", RealDate.UTC);
  ObjectDefineProperty(FluxDate, "prototype", { value: RealDate.prototype, writable: false });
  hide(RealDate.prototype, "constructor", FluxDate);
  hide(globalThis, "Date", FluxDate);
}

function installPerformance(): void {
  const elapsed = () => {
    const { now, began } = sources();
    return (now - began) / 1000;
  };
  const entry = (entryType: string, name: string, startTime: number, duration: number) => ({ entryType, name, startTime, duration, detail: null });
  const performance = {
    now: elapsed,
    get timeOrigin() {
      return sources().began / 1000;
    },
    mark: (name: string) => entry("mark", name, elapsed(), 0),
    measure: (name: string) => entry("measure", name, 0, elapsed()),
    clearMarks() {},
    clearMeasures() {},
    getEntries: () => [],
    getEntriesByName: () => [],
    getEntriesByType: () => [],
    toJSON: () => ({ timeOrigin: sources().began / 1000 }),
  };
  hide(globalThis, "performance", performance);
}

// deno-lint-ignore no-explicit-any
function installTemporal(temporal: any): void {
  if (temporal === undefined) return;
  const { Instant } = temporal;
  const instant = () => new Instant(BigInt(sources().now) * 1000n);
  const zoned = (zone: unknown = "UTC") => instant().toZonedDateTimeISO(zone);
  hide(temporal.Now, "instant", instant);
  hide(temporal.Now, "zonedDateTimeISO", zoned);
  hide(temporal.Now, "plainDateTimeISO", (zone?: unknown) => zoned(zone).toPlainDateTime());
  hide(temporal.Now, "plainDateISO", (zone?: unknown) => zoned(zone).toPlainDate());
  hide(temporal.Now, "plainTimeISO", (zone?: unknown) => zoned(zone).toPlainTime());
  hide(temporal.Now, "timeZoneId", () => "UTC");
}

function installIntl(): void {
  const prototype = Intl.DateTimeFormat.prototype;
  const format = Object.getOwnPropertyDescriptor(prototype, "format")!.get!;
  const formatToParts = prototype.formatToParts;
  const formats = new WeakMap<object, (date?: unknown) => string>();
  ObjectDefineProperty(prototype, "format", {
    configurable: true,
    get(this: object) {
      let bound = formats.get(this);
      if (bound === undefined) {
        const original = ReflectApply(format, this, []);
        bound = (date?: unknown) => original(date === undefined ? milliseconds() : date);
        formats.set(this, bound);
      }
      return bound;
    },
  });
  hide(prototype, "formatToParts", function (this: Intl.DateTimeFormat, date?: Date | number) {
    return ReflectApply(formatToParts, this, [date === undefined ? milliseconds() : date]);
  });
}

function installStamps(): void {
  ObjectDefineProperty(Event.prototype, "timeStamp", { configurable: true, get: () => (sources().now - sources().began) / 1000 });
  const RealFile = File;
  class FluxFile extends RealFile {
    constructor(parts: BlobPart[], name: string, options: FilePropertyBag = {}) {
      super(parts, name, { ...options, lastModified: options.lastModified ?? milliseconds() });
    }
  }
  hide(FluxFile, "name", "File");
  hide(globalThis, "File", FluxFile);
}

/** Replace every clock in this realm. Called once, before user code. */
export function installClock(): void {
  installDate();
  installPerformance();
  // deno-lint-ignore no-explicit-any
  installTemporal((globalThis as any).Temporal);
  installIntl();
  installStamps();
}
