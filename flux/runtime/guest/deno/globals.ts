// What user code can't have. Gone: Deno, process, setImmediate and clearImmediate, Worker, WebSocket, EventSource, BroadcastChannel, MessageChannel,
// MessagePort, Atomics.wait and waitAsync, caches, localStorage, sessionStorage, alert, confirm, prompt, close, closed, location, WebGPU and canvas, performance
// observers, WebAssembly's streaming compilers. Patched elsewhere: Date, performance, Temporal, Intl (clock.ts), Math.random and crypto (crypto.ts),
// setTimeout and setInterval (timers.ts), console (console.ts), fetch. Here: WeakRef and FinalizationRegistry, whose answers depend on the garbage
// collector, hold strongly and never call back; navigator says nothing of the machine; native operations end in order.
// Not closed: `await import(...)` inside a handler ends when the disk is ready; ECDSA, RSA-PSS and RSA-OAEP are random by nature.

import { installBodies } from "./bodies.ts";
import { fetch } from "./fetch.ts";
import { scope } from "./invocation.ts";
import { ObjectDefineProperty, ReflectApply } from "./primordials.ts";
import { native } from "./turns.ts";

const GONE = [
  "Deno", "process", "setImmediate", "clearImmediate", "Worker", "WebSocket", "EventSource", "BroadcastChannel", "MessageChannel", "MessagePort",
  "caches", "Cache", "CacheStorage", "localStorage", "sessionStorage", "Storage", "alert", "confirm", "prompt", "close", "closed", "location",
  "Location", "Window", "name", "createImageBitmap", "ImageBitmap", "ImageBitmapRenderingContext", "OffscreenCanvas", "Lock", "LockManager",
  "PerformanceObserver", "PerformanceObserverEntryList", "Performance", "PerformanceEntry", "PerformanceMark", "PerformanceMeasure", "FileReader",
  "SharedArrayBuffer", "NavigatorUAData", "Navigator", "onbeforeunload", "onunload", "onload", "onerror", "onunhandledrejection",
];

// deno-lint-ignore no-explicit-any
type Any = any;

function define(target: object, name: PropertyKey, value: unknown): void {
  ObjectDefineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
}

/** Have the ends of native asynchronous methods of `target` be turns. */
function order(target: Any, names: string[]): void {
  for (const name of names) {
    const original = target[name];
    if (typeof original !== "function") continue;
    define(target, name, function (this: unknown, ...args: unknown[]) {
      const start = () => ReflectApply(original, this, args) as Promise<unknown>;
      return scope() === undefined ? start() : native(start);
    });
  }
}

/** Remove and patch. Called once, last before user code is loaded. */
export function installGlobals(): void {
  const realm = globalThis as Any;
  for (const name of [...GONE, ...Object.getOwnPropertyNames(realm).filter((name) => name.startsWith("GPU"))]) {
    if (!delete realm[name]) define(realm, name, undefined);
  }
  delete realm.Atomics.wait;
  delete realm.Atomics.waitAsync;
  delete realm.WebAssembly.compileStreaming;
  delete realm.WebAssembly.instantiateStreaming;
  order(realm.WebAssembly, ["compile", "instantiate"]);
  order(Blob.prototype, ["text", "arrayBuffer", "bytes"]);
  installBodies();
  define(realm, "fetch", fetch);
  define(realm, "WeakRef", class WeakRef {
    readonly #target: object;
    constructor(target: object) {
      this.#target = target;
    }
    deref() {
      return this.#target;
    }
  });
  define(realm, "FinalizationRegistry", class FinalizationRegistry {
    register() {}
    unregister() {
      return false;
    }
  });
  const navigator = Object.freeze({ userAgent: "Flux", language: "en-US", languages: Object.freeze(["en-US"]), hardwareConcurrency: 1 });
  ObjectDefineProperty(realm, "navigator", { value: navigator, configurable: true, enumerable: true, writable: false });
}
