/**
 * A program on a mount whose daemon is killed under it: random calls without any fsync, each
 * checked at once against a model in its own memory, and everything again at the end. An error that
 * the model does not expect ends it. As a process: DIRECTORY SEED; it works until its standard
 * input ends, and then prints {"calls", "longestMs"} or {"fault"}.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Chooser } from '../../chaos/recorded/random.js';

const NAMES = 24;
const FILE_MAX = 200_000;
const WRITE_MAX = 40_000;
const HELD_MAX = 8;

class ModelFile {
  bytes = Buffer.alloc(0);
  links = 0;

  write(at: number, data: Buffer): void {
    const end = at + data.length;
    if (end > this.bytes.length) {
      this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - this.bytes.length)]);
    }
    data.copy(this.bytes, at);
  }

  truncate(size: number): void {
    const more = Math.max(0, size - this.bytes.length);
    this.bytes = Buffer.concat([this.bytes.subarray(0, size), Buffer.alloc(more)]);
  }
}

type Node = ModelFile | { readonly entries: true } | { readonly target: string };

/** An open file, perhaps without a name by now. */
interface Held {
  readonly fd: number;
  readonly file: ModelFile;
  readonly appends: boolean;
}

export class AdoptionWorker {
  readonly #root: string;
  readonly #choose: Chooser;
  readonly #nodes = new Map<string, Node>();
  readonly #held: Held[] = [];
  calls = 0;
  longestMs = 0;

  constructor(root: string, seed: number) {
    this.#root = root;
    this.#choose = new Chooser(seed);
    mkdirSync(root);
  }

  /** One random call, timed. */
  step(): void {
    const began = performance.now();
    this.#call();
    this.calls += 1;
    this.longestMs = Math.max(this.longestMs, performance.now() - began);
  }

  #path(name: string): string {
    return join(this.#root, name);
  }

  #name(): string {
    return `n${this.#choose.below(NAMES)}`;
  }

  /** What the call is to end with: null, or an error's code. */
  #expect(code: string | null, call: () => void): void {
    let found: string | null = null;
    try {
      call();
    } catch (thrown) {
      found = (thrown as NodeJS.ErrnoException).code ?? String(thrown);
    }
    if (found !== code) throw new Error(`call ${this.calls} ended with ${found}, not ${code}`);
  }

  #call(): void {
    const name = this.#name();
    const node = this.#nodes.get(name);
    const what = this.#choose.below(14);
    if (what < 2) this.#create(name, node);
    else if (what < 3) this.#mkdir(name, node);
    else if (what < 4) this.#remove(name, node);
    else if (what < 6) this.#rename(name, node);
    else if (what < 7) this.#link(name, node);
    else if (what < 8) this.#symlink(name, node);
    else if (what < 9) this.#hold(name, node);
    else if (what < 10) this.#letGo();
    else if (what < 11) this.#truncate();
    else if (what < 12) this.#look(name, node);
    else this.#write();
  }

  #create(name: string, node: Node | undefined): void {
    const flags = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR;
    this.#expect(node === undefined ? null : 'EEXIST', () => {
      const fd = openSync(this.#path(name), flags);
      const file = new ModelFile();
      file.links = 1;
      this.#nodes.set(name, file);
      this.#keep({ fd, file, appends: false });
    });
  }

  #keep(held: Held): void {
    this.#held.push(held);
    if (this.#held.length > HELD_MAX) this.#letGo();
  }

  #mkdir(name: string, node: Node | undefined): void {
    this.#expect(node === undefined ? null : 'EEXIST', () => {
      mkdirSync(this.#path(name));
      this.#nodes.set(name, { entries: true });
    });
  }

  #remove(name: string, node: Node | undefined): void {
    this.#expect(node === undefined ? 'ENOENT' : null, () => {
      if (node !== undefined && 'entries' in node) rmdirSync(this.#path(name));
      else unlinkSync(this.#path(name));
      this.#nodes.delete(name);
      if (node instanceof ModelFile) node.links -= 1;
    });
  }

  #rename(name: string, node: Node | undefined): void {
    const to = this.#name();
    const victim = this.#nodes.get(to);
    let code: string | null = null;
    if (node === undefined) code = 'ENOENT';
    else if (name !== to && victim !== undefined) {
      if ('entries' in victim && !('entries' in node)) code = 'EISDIR';
      if ('entries' in node && !('entries' in victim)) code = 'ENOTDIR';
    }
    this.#expect(code, () => {
      renameSync(this.#path(name), this.#path(to));
      // Two names of one file: POSIX leaves both.
      if (node === undefined || node === victim) return;
      if (victim instanceof ModelFile) victim.links -= 1;
      this.#nodes.delete(name);
      this.#nodes.set(to, node);
    });
  }

  #link(name: string, node: Node | undefined): void {
    const to = this.#name();
    if (!(node instanceof ModelFile)) return;
    this.#expect(this.#nodes.has(to) ? 'EEXIST' : null, () => {
      linkSync(this.#path(name), this.#path(to));
      this.#nodes.set(to, node);
      node.links += 1;
    });
  }

  #symlink(name: string, node: Node | undefined): void {
    const target = `to-${this.#choose.below(1000)}`;
    this.#expect(node === undefined ? null : 'EEXIST', () => {
      symlinkSync(target, this.#path(name));
      this.#nodes.set(name, { target });
    });
  }

  #hold(name: string, node: Node | undefined): void {
    if (!(node instanceof ModelFile)) return;
    const appends = this.#choose.chance(50);
    const flags = constants.O_RDWR | (appends ? constants.O_APPEND : 0);
    this.#expect(null, () => {
      this.#keep({ fd: openSync(this.#path(name), flags), file: node, appends });
    });
  }

  #letGo(): void {
    const [held] = this.#held.splice(this.#choose.below(this.#held.length), 1);
    if (held === undefined) return;
    this.#compare(held);
    this.#expect(null, () => closeSync(held.fd));
  }

  #truncate(): void {
    const held = this.#choose.of(this.#held);
    if (held === undefined) return;
    const size = this.#choose.below(FILE_MAX);
    this.#expect(null, () => {
      ftruncateSync(held.fd, size);
      held.file.truncate(size);
    });
  }

  #write(): void {
    const held = this.#choose.of(this.#held);
    if (held === undefined) return;
    const { fd, file, appends } = held;
    const length = 1 + this.#choose.below(this.#choose.chance(50) ? 300 : WRITE_MAX);
    const data = Buffer.alloc(length, `${this.#choose.below(1_000_000)},`);
    const at = appends ? file.bytes.length : this.#choose.below(FILE_MAX - length);
    if (at + length > 2 * FILE_MAX) return;
    this.#expect(null, () => {
      const written = writeSync(fd, data, 0, length, appends ? null : at);
      if (written !== length) throw new Error(`${written} of ${length} bytes were written`);
      file.write(at, data);
    });
  }

  /** A look at what the kernel may have to ask for. */
  #look(name: string, node: Node | undefined): void {
    this.#expect(node === undefined ? 'ENOENT' : null, () => {
      const { size } = lstatSync(this.#path(name));
      if (node instanceof ModelFile && size !== node.bytes.length) {
        throw new Error(`${name} has ${size} bytes, not ${node.bytes.length}`);
      }
    });
  }

  #compare({ fd, file }: Held): void {
    const { size, nlink } = fstatSync(fd);
    if (size !== file.bytes.length || nlink !== file.links) {
      throw new Error(`an open file has ${size} bytes and ${nlink} names`);
    }
    const found = Buffer.alloc(size);
    readSync(fd, found, 0, size, 0);
    if (!found.equals(file.bytes)) throw new Error('an open file has other bytes');
  }

  /** Everything, from the directory's listing to the last byte. */
  check(): void {
    for (const held of this.#held) this.#compare(held);
    const names = readdirSync(this.#root).sort();
    const known = [...this.#nodes.keys()].sort();
    if (names.join() !== known.join()) throw new Error(`there is ${names}, not ${known}`);
    for (const [name, node] of this.#nodes) {
      if ('target' in node) {
        if (readlinkSync(this.#path(name)) !== node.target) throw new Error(`target of ${name}`);
      } else if (node instanceof ModelFile) {
        const found = readFileSync(this.#path(name));
        if (!found.equals(node.bytes)) throw new Error(`${name} has other bytes`);
      }
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [directory = '', seed = '1'] = process.argv.slice(2);
  const worker = new AdoptionWorker(directory, Number(seed));
  let isOver = false;
  process.stdin.on('end', () => {
    isOver = true;
  });
  process.stdin.resume();
  const work = (): void => {
    try {
      for (let i = 0; i < 20; i++) worker.step();
      if (!isOver) {
        setImmediate(work);
        return;
      }
      worker.check();
      const { calls, longestMs } = worker;
      console.log(JSON.stringify({ calls, longestMs: Math.round(longestMs) }));
      process.exit(0);
    } catch (error) {
      console.log(JSON.stringify({ fault: (error as Error).message }));
      process.exit(1);
    }
  };
  work();
}
