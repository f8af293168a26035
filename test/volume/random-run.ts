/**
 * Runs one random sequence of operations on a volume and on the model, and compares. Steps are
 * plain numbers whose meaning depends on what exists when they run, so that any part of a sequence
 * is a sequence: what fast-check shrinks stays valid.
 */
import fc from 'fast-check';
import { assert } from '../../src/core/assert.js';
import { crc32 } from '../../src/core/checksum.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import type { Inode } from '../../src/volume/filesystem-api.js';
import { type Bed, CALLER, type Fault, ROOT } from './harness.js';
import { Model, ModelError, type ModelNode } from './model.js';

export interface Step {
  readonly kind: (typeof KINDS)[number];
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

export const KINDS = [
  'create',
  'mkdir',
  'symlink',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'write',
  'write',
  'write',
  'truncate',
  'fallocate',
  'copy',
  'xattr',
  'chmod',
  'commit',
  'fsync',
  'remount',
  'checkpoint',
  'clean',
] as const;

const number = fc.nat(0xffff);
export const steps = fc.array(
  fc.record<Step>({ kind: fc.constantFrom(...KINDS), a: number, b: number, c: number, d: number }),
  { maxLength: 60, size: 'max' },
);

const TYPES = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
]);
const NAMES = ['a', 'b', 'c', 'd', 'e', 'ffffffffffffffffffffffff'];
/** Edges of pages and of extent chunks, and beyond. */
const OFFSETS = [0, 1, 100, 4095, 4096, 4097, 8192, 40_000, 1_044_480, 1_048_576, 1_052_000];
const LENGTHS = [1, 10, 4096, 4095, 5000, 8192, 12_288, 70_000];

export class Run {
  readonly bed: Bed;
  readonly model = new Model();
  readonly inodes = new Map<ModelNode, Inode>();
  /** Dumps of the model: after formatting, and after each step. */
  readonly history: string[] = [];
  /** Index in history of what is certainly on stable storage. */
  durable = 0;
  #nodes: ModelNode[];
  /** A remount is an adoption: by another daemon, at any moment, with nothing lost. */
  readonly #adopts: boolean;

  constructor(bed: Bed, options: { readonly adopts?: boolean } = {}) {
    this.bed = bed;
    this.#adopts = options.adopts ?? false;
    this.#nodes = [this.model.root];
    this.inodes.set(this.model.root, ROOT);
    this.history.push(this.model.dump());
  }

  #pick(index: number): ModelNode {
    return this.#nodes[index % this.#nodes.length] as ModelNode;
  }

  #inode(node: ModelNode): Inode {
    return this.inodes.get(node) as Inode;
  }

  step(step: Step): void {
    this.#perform(step);
    this.history.push(this.model.dump());
  }

  #both(mine: () => void, theirs: () => Fault): void {
    let expected = 'nothing';
    try {
      mine();
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      expected = error.errno;
    }
    let found = 'nothing';
    try {
      const error = theirs();
      if (error !== null) throw error;
    } catch (error) {
      found = (error as { errno?: string }).errno ?? String((error as Error).stack);
    }
    assert(found === expected, `expected ${expected}, found ${found}`);
  }

  #perform({ kind, a, b, c, d }: Step): void {
    const { bed, model } = this;
    const node = this.#pick(a);
    const other = this.#pick(c);
    const name = NAMES[b % NAMES.length] as string;
    const newName = NAMES[d % NAMES.length] as string;
    switch (kind) {
      case 'create':
      case 'mkdir':
      case 'symlink':
        this.#create(kind, node, name);
        return;
      case 'link':
        this.#both(
          () => model.link(other, node, name),
          () => {
            bed.fs.link(this.#inode(other), this.#inode(node), Buffer.from(name));
            return null;
          },
        );
        return;
      case 'unlink':
      case 'rmdir':
        this.#both(
          () => model[kind](node, name),
          () => {
            bed.fs[kind](this.#inode(node), Buffer.from(name));
            return null;
          },
        );
        return;
      case 'rename':
        this.#both(
          () => model.rename(node, name, other, newName, d % 3),
          () => {
            const [from, to] = [this.#inode(node), this.#inode(other)];
            bed.fs.rename(from, Buffer.from(name), to, Buffer.from(newName), d % 3);
            return null;
          },
        );
        return;
      default:
        this.#performData({ kind, a, b, c, d }, node, other);
    }
  }

  #create(kind: 'create' | 'mkdir' | 'symlink', parent: ModelNode, name: string): void {
    const { bed, model } = this;
    const type = kind === 'create' ? 'file' : kind === 'mkdir' ? 'directory' : 'symlink';
    let made: ModelNode | null = null;
    this.#both(
      () => {
        made = model.create(parent, name, type, kind === 'symlink' ? 0o777 : 0o644);
        if (kind === 'symlink') made.data = Buffer.from('target');
      },
      () => {
        const at = this.#inode(parent);
        const bytes = Buffer.from(name);
        let inode: Inode;
        if (kind === 'create') inode = bed.fs.mknod(at, bytes, 0o100644, 0, CALLER).inode;
        else if (kind === 'mkdir') inode = bed.fs.mkdir(at, bytes, 0o644, CALLER).inode;
        else inode = bed.fs.symlink(at, bytes, Buffer.from('target'), CALLER).inode;
        if (made !== null) this.inodes.set(made, inode);
        return null;
      },
    );
    if (made !== null) this.#nodes.push(made);
  }

  #performData(step: Step, node: ModelNode, other: ModelNode): void {
    const { kind, b, c, d } = step;
    const { bed, model } = this;
    const inode = this.#inode(node);
    const offset = (OFFSETS[b % OFFSETS.length] as number) + ((b >>> 8) % 3) * 4096;
    const length = LENGTHS[c % LENGTHS.length] as number;
    const sync = (call: () => void) => (): null => {
      call();
      return null;
    };
    switch (kind) {
      case 'write': {
        const data = Buffer.alloc(length, (d & 0xff) + 1);
        this.#both(
          () => model.write(node, offset, data),
          () => bed.write(inode, offset, data),
        );
        return;
      }
      case 'truncate':
        this.#both(
          () => model.resize(node, offset),
          sync(() => bed.fs.setattr(inode, { size: offset })),
        );
        return;
      case 'fallocate': {
        const mode = [0, 1, 3, 16, 17][d % 5] as number;
        this.#both(
          () => model.fallocate(node, offset, length, mode),
          sync(() => bed.fs.fallocate(inode, offset, length, mode)),
        );
        return;
      }
      case 'copy':
        if (node.type !== 'file' || other.type !== 'file') return;
        this.#both(
          () => model.copyRange(node, offset, other, (d % 40) * PAGE_BYTES, length),
          sync(() =>
            bed.fs.copyRange(inode, offset, this.#inode(other), (d % 40) * PAGE_BYTES, length),
          ),
        );
        return;
      case 'chmod':
        node.mode = d & 0o777;
        bed.fs.setattr(inode, { mode: node.mode });
        return;
      case 'xattr':
        this.#xattr(node, inode, `user.${b % 4}`, d);
        return;
      default:
        this.#performCommit(step);
    }
  }

  #xattr(node: ModelNode, inode: Inode, name: string, d: number): void {
    const { bed } = this;
    if (d % 3 === 0 && node.xattrs.delete(name)) {
      bed.fs.removexattr(inode, name);
    } else {
      node.xattrs.set(name, `v${d}`);
      bed.fs.setxattr(inode, name, Buffer.from(`v${d}`), 0);
    }
  }

  #performCommit({ kind, a }: Step): void {
    const { bed } = this;
    if (kind === 'fsync') {
      bed.commit();
      this.durable = this.history.length - 1;
    } else if (kind === 'checkpoint') {
      bed.fs.checkpoints.begin(() => {});
      bed.scheduler.runFor(a % 7);
    } else if (kind === 'clean') {
      bed.fs.cleaner.clean(() => {});
      bed.scheduler.runFor(a % 20);
    } else if (kind === 'commit') {
      // In the background: closed, perhaps acknowledged later.
      bed.fs.commit(() => {});
      if (a % 2 === 0) bed.scheduler.runFor(a % 5);
    } else if (this.#adopts) {
      bed.adopt(a % 8);
    } else {
      bed.commit();
      bed.crash();
      this.durable = this.history.length - 1;
      this.#forgetOrphans();
    }
  }

  /** A fresh mount has ended everything without a name. */
  #forgetOrphans(): void {
    this.#nodes = this.#nodes.filter((node) => node.nlink > 0);
    for (const node of this.#nodes) this.bed.fs.open(this.#inode(node));
  }

  /** The volume, in the model's words. */
  dump(): string {
    const { fs } = this.bed;
    const lines: string[] = [];
    const seen = new Map<Inode, string>();
    const walk = (inode: Inode, path: string): void => {
      const first = seen.get(inode);
      seen.set(inode, first ?? path);
      lines.push(`${path} ${first === undefined ? this.#describe(inode) : `= ${first}`}`);
      if ((fs.getattr(inode).mode & 0o170000) !== 0o040000) return;
      const entries: { name: string; inode: Inode }[] = [];
      fs.readdir(inode, 0, (entry) => entries.push({ ...entry, name: `${entry.name}` }) > 0);
      entries.sort((x, y) => (x.name < y.name ? -1 : 1));
      for (const entry of entries) walk(entry.inode, `${path}/${entry.name}`);
    };
    walk(ROOT, '');
    return lines.join('\n');
  }

  #describe(inode: Inode): string {
    const { fs } = this.bed;
    const { mode, nlink, size, blocks } = fs.getattr(inode);
    const xattrs = fs.listxattr(inode).map((name) => `${name}=${fs.getxattr(inode, name)}`);
    const type = TYPES.get(mode & 0o170000);
    const head = `${type} ${(mode & 0o7777).toString(8)} ${nlink} [${xattrs.sort().join(',')}]`;
    if (type === 'directory') return head;
    const data = type === 'symlink' ? fs.readlink(inode) : this.bed.content(inode);
    return `${head} ${size} ${blocks / 8} ${crc32(data)}`;
  }

  /** Asserts that the volume and the model answer alike. */
  compare(): void {
    const expected = this.model.dump();
    const found = this.dump();
    assert(found === expected, `expected\n${expected}\nfound\n${found}`);
    for (const node of this.#nodes) {
      if (node.type !== 'file') continue;
      const bytes = this.bed.content(this.#inode(node));
      assert(bytes.equals(node.data), `content of ${node.id} (inode ${this.#inode(node)})`);
      this.#compareHoles(node);
    }
  }

  #compareHoles(node: ModelNode): void {
    for (let offset = 0; offset < node.data.length; offset += 4096 * 5 + 77) {
      for (const whence of ['data', 'hole'] as const) {
        let page = Math.floor(offset / PAGE_BYTES);
        const end = Math.ceil(node.data.length / PAGE_BYTES);
        while (page < end && (node.pages.get(page) === 'data') !== (whence === 'data')) page += 1;
        let expected = Math.max(offset, page * PAGE_BYTES);
        if (whence === 'hole') expected = Math.min(expected, node.data.length);
        let found = -1;
        try {
          found = this.bed.fs.seek(this.#inode(node), offset, whence);
        } catch {
          if (page >= end && whence === 'data') continue;
        }
        assert(found === expected, `seek ${whence} from ${offset}: ${found}, not ${expected}`);
      }
    }
  }
}
