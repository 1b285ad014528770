// Turns: what user code is told (an invocation begins, a reply, the end of a native operation) it is told in a macrotask of its own, one for
// the whole process, in the order of arrival. What runs between two host replies therefore depends on the replies and their order alone,
// also where invocations share module state. The first turn after a rest is taken at once, inside the macrotask that read it.

// deno-lint-ignore no-explicit-any
const macrotask = (globalThis as any).setImmediate as (run: () => void) => void;

/** Turns after which what user code has sent leaves, though more turns wait. */
const FLUSH_AFTER = 16;

interface Turn {
  run: () => void;
  next: Turn | undefined;
}

let head: Turn | undefined;
let tail: Turn | undefined;
let taken = false;
let held = 0;
let flush = () => {};

/** Have `written` called whenever turns have come to rest, and now and then before. Replaces the last one. */
export function onRest(written: () => void): void {
  flush = written;
}

/** Whether turns are waiting: what user code sends now can leave together with what they lead to. */
export function waiting(): boolean {
  return head !== undefined;
}

/** Take a turn: now where none was taken in this macrotask and none waits, else in a later one, after those before it. */
export function turn(run: () => void): void {
  if (!taken) {
    taken = true;
    macrotask(next);
    run();
    return;
  }
  const last: Turn = { run, next: undefined };
  if (tail === undefined) head = last;
  else tail.next = last;
  tail = last;
}

/** Take a turn in a later macrotask, whoever asks: what nobody has caught by then has been told. */
export function later(run: () => void): void {
  if (!taken) {
    taken = true;
    macrotask(next);
  }
  const last: Turn = { run, next: undefined };
  if (tail === undefined) head = last;
  else tail.next = last;
  tail = last;
}

function next(): void {
  const turn = head;
  if (turn === undefined) {
    taken = false;
    held = 0;
    return flush();
  }
  head = turn.next;
  if (head === undefined) tail = undefined;
  macrotask(next);
  turn.run();
  if (++held % FLUSH_AFTER === 0) flush();
}
