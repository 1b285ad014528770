// Random numbers of an invocation: ChaCha20 (RFC 8439) keyed with its seed, made when first asked for. Behind Math.random,
// crypto.getRandomValues, crypto.randomUUID and generated keys, so that the same seed gives the same values.

const CHUNK = 64;

/** A stream of pseudo-random bytes from a 256-bit seed. */
export class Random {
  #state = new Uint32Array(16);
  #block = new Uint8Array(CHUNK);
  #words = new Uint32Array(this.#block.buffer);
  #used = CHUNK;

  /** @param seed 64 hex digits. */
  constructor(seed: string) {
    const state = this.#state;
    state[0] = 0x61707865, state[1] = 0x3320646e, state[2] = 0x79622d32, state[3] = 0x6b206574;
    for (let i = 0; i < 8; i++) {
      let word = 0;
      for (let j = 3; j >= 0; j--) word = (word << 8) | (hex(seed, i * 8 + j * 2) << 4) | hex(seed, i * 8 + j * 2 + 1);
      state[4 + i] = word;
    }
  }

  /** Fill `into` with the next bytes. */
  fill(into: Uint8Array): void {
    for (let i = 0; i < into.length; i++) {
      if (this.#used === CHUNK) this.#next();
      into[i] = this.#block[this.#used++];
    }
  }

  /** The next number in [0, 1), 53 random bits. */
  number(): number {
    this.#used = (this.#used + 7) & ~7;
    if (this.#used >= CHUNK) this.#next();
    const at = this.#used >>> 2;
    this.#used += 8;
    return ((this.#words[at] >>> 5) * 67108864 + (this.#words[at + 1] >>> 6)) / 9007199254740992;
  }

  #next(): void {
    const s = this.#state, x = this.#words;
    for (let i = 0; i < 16; i++) x[i] = s[i];
    for (let round = 0; round < 10; round++) {
      quarter(x, 0, 4, 8, 12), quarter(x, 1, 5, 9, 13), quarter(x, 2, 6, 10, 14), quarter(x, 3, 7, 11, 15);
      quarter(x, 0, 5, 10, 15), quarter(x, 1, 6, 11, 12), quarter(x, 2, 7, 8, 13), quarter(x, 3, 4, 9, 14);
    }
    for (let i = 0; i < 16; i++) x[i] += s[i];
    if (++s[12] === 0) s[13]++;
    this.#used = 0;
  }
}

function quarter(x: Uint32Array, a: number, b: number, c: number, d: number): void {
  let t: number;
  x[a] += x[b], t = x[d] ^ x[a], x[d] = (t << 16) | (t >>> 16);
  x[c] += x[d], t = x[b] ^ x[c], x[b] = (t << 12) | (t >>> 20);
  x[a] += x[b], t = x[d] ^ x[a], x[d] = (t << 8) | (t >>> 24);
  x[c] += x[d], t = x[b] ^ x[c], x[b] = (t << 7) | (t >>> 25);
}

function hex(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code < 58 ? code - 48 : code - 87;
}
