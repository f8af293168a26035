/**
 * A directory tree as the operations of a history make it: the model that a volume is compared
 * with. What counts is what `describe` says of each path; scan.ts says the same words about a real
 * directory.
 */
import { crc32 } from '../../src/core/checksum.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import { contents, type Of, type Operation } from './operations.js';

/** Nobody needs larger files here, and a history may have thousands of versions of them. */
export const MAX_FILE_BYTES = 512 * 1024;

interface FileNode {
  readonly kind: 'file';
  mode: number;
  data: Buffer;
  readonly names: Set<string>;
  readonly xattrs: Map<string, string>;
}

interface OtherNode {
  readonly kind: 'directory' | 'symlink';
  mode: number;
  readonly target: string;
  readonly xattrs: Map<string, string>;
}

export type TreeNode = FileNode | OtherNode;

/** What can be seen of one path. */
export interface Seen {
  readonly kind: 'file' | 'directory' | 'symlink';
  readonly mode: number;
  readonly target: string;
  readonly size: number;
  readonly crc: number;
  /** All names of the same file below the root, this one too. */
  readonly names: readonly string[];
  readonly xattrs: ReadonlyMap<string, string>;
}

/** One line that two paths have in common only when they look the same. */
export function describe(seen: Seen): string {
  const { kind, mode, target, size, crc, names, xattrs } = seen;
  if (kind === 'symlink') return `symlink to ${target}`;
  const sorted = [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1));
  const attributes = sorted.map(([name, value]) => ` ${name}=${value}`).join('');
  const base = `${kind} mode ${(mode & 0o7777).toString(8)}`;
  if (kind === 'directory') return base + attributes;
  const links = names.length > 1 ? ` names ${[...names].sort().join(',')}` : '';
  return `${base} size ${size} crc ${crc.toString(16)}${links}${attributes}`;
}

export class Tree {
  readonly nodes = new Map<string, TreeNode>();

  describe(path: string): string | undefined {
    const node = this.nodes.get(path);
    if (node === undefined) return undefined;
    const { kind, mode, xattrs } = node;
    const base = { kind, mode, xattrs };
    if (node.kind !== 'file') {
      return describe({ ...base, target: node.target, size: 0, crc: 0, names: [] });
    }
    const { data, names } = node;
    return describe({
      ...base,
      target: '',
      size: data.length,
      crc: crc32(data),
      names: [...names],
    });
  }

  clone(): Tree {
    const copy = new Tree();
    const made = new Map<TreeNode, TreeNode>();
    for (const [path, node] of this.nodes) {
      const known = made.get(node);
      const xattrs = new Map(node.xattrs);
      const fresh =
        node.kind === 'file'
          ? { ...node, xattrs, names: new Set(node.names) }
          : { ...node, xattrs };
      made.set(node, known ?? fresh);
      copy.nodes.set(path, known ?? fresh);
    }
    return copy;
  }

  /** Every path with its description. */
  view(): Map<string, string> {
    return new Map([...this.nodes.keys()].map((path) => [path, this.describe(path) as string]));
  }

  childrenOf(directory: string): string[] {
    const prefix = `${directory}/`;
    return [...this.nodes.keys()].filter((path) => path.startsWith(prefix));
  }

  /**
   * Does one operation and returns the paths that may look different now. Throws where the
   * operation cannot have worked.
   */
  apply(operation: Operation): string[] {
    const { path } = operation;
    switch (operation.op) {
      case 'create':
      case 'mkdir':
      case 'symlink':
        return this.#make(operation);
      case 'chmod':
        this.#at(path).mode = operation.mode;
        return this.#namesOf(path);
      case 'link':
        return this.#link(path, operation.to);
      case 'rename':
        return this.#rename(path, operation.to);
      case 'unlink':
      case 'rmdir':
        return this.#remove(path, operation.op);
      case 'setxattr':
        this.#at(path).xattrs.set(operation.name, operation.value);
        return this.#namesOf(path);
      case 'removexattr':
        this.#at(path).xattrs.delete(operation.name);
        return this.#namesOf(path);
      case 'fsync':
      case 'fdatasync':
        return [];
      default:
        this.#change(operation);
        return this.#namesOf(path);
    }
  }

  /**
   * Does what the kernel asks for first, of an operation that may reach the filesystem as two
   * requests: a write that begins inside a page which is not cached sends that page alone. Null
   * for any other operation; `apply` may follow.
   */
  applyFirstRequest(operation: Operation): string[] | null {
    if (operation.op !== 'write' && operation.op !== 'append') return null;
    const room = PAGE_BYTES - (operation.offset % PAGE_BYTES);
    if (room === PAGE_BYTES || operation.length <= room) return null;
    this.#store(operation, room);
    return this.#namesOf(operation.path);
  }

  #at(path: string): TreeNode {
    const node = this.nodes.get(path);
    if (node === undefined) throw new Error(`there is no ${path}`);
    return node;
  }

  #file(path: string): FileNode {
    const node = this.#at(path);
    if (node.kind !== 'file') throw new Error(`${path} is a ${node.kind}`);
    return node;
  }

  #namesOf(path: string): string[] {
    const node = this.#at(path);
    return node.kind === 'file' ? [...node.names] : [path];
  }

  #absent(path: string): void {
    if (this.nodes.has(path)) throw new Error(`${path} exists`);
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (parent !== '' && this.#at(parent).kind !== 'directory') throw new Error(`${parent}: file`);
  }

  #make(operation: Of<'create' | 'mkdir'> | Of<'symlink'>): string[] {
    const { path } = operation;
    this.#absent(path);
    const xattrs = new Map<string, string>();
    if (operation.op === 'symlink') {
      this.nodes.set(path, { kind: 'symlink', mode: 0, target: operation.to, xattrs });
    } else if (operation.op === 'mkdir') {
      this.nodes.set(path, { kind: 'directory', mode: operation.mode, target: '', xattrs });
    } else {
      const names = new Set([path]);
      const data = Buffer.alloc(0);
      this.nodes.set(path, { kind: 'file', mode: operation.mode, data, names, xattrs });
    }
    return [path];
  }

  #link(path: string, to: string): string[] {
    const node = this.#file(path);
    this.#absent(to);
    this.nodes.set(to, node);
    node.names.add(to);
    return [...node.names];
  }

  #remove(path: string, how: 'unlink' | 'rmdir'): string[] {
    const node = this.#at(path);
    if ((node.kind === 'directory') !== (how === 'rmdir')) throw new Error(`${how} of ${path}`);
    if (node.kind === 'directory' && this.childrenOf(path).length > 0) {
      throw new Error(`${path} is not empty`);
    }
    this.nodes.delete(path);
    if (node.kind !== 'file') return [path];
    node.names.delete(path);
    return [path, ...node.names];
  }

  #rename(path: string, to: string): string[] {
    const node = this.#at(path);
    const target = this.nodes.get(to);
    // POSIX: two names of one file are left alone.
    if (path === to || (target !== undefined && target === node)) return [];
    const changed = target === undefined ? [] : this.#replace(node, to);
    if (target === undefined) this.#absent(to);
    const moving = [path, ...(node.kind === 'directory' ? this.childrenOf(path) : [])];
    for (const from of moving) {
      const moved = this.#at(from);
      const name = to + from.slice(path.length);
      this.nodes.delete(from);
      this.nodes.set(name, moved);
      changed.push(from, name);
      if (moved.kind !== 'file') continue;
      moved.names.delete(from);
      moved.names.add(name);
      changed.push(...moved.names);
    }
    return changed;
  }

  #replace(node: TreeNode, to: string): string[] {
    const over = this.#at(to);
    if ((node.kind === 'directory') !== (over.kind === 'directory')) {
      throw new Error(`a ${node.kind} cannot replace ${to}`);
    }
    return this.#remove(to, over.kind === 'directory' ? 'rmdir' : 'unlink');
  }

  #change(operation: Of<'write' | 'append'> | Of<'truncate'> | Of<'punch'>): void {
    const node = this.#file(operation.path);
    if (operation.op === 'truncate') {
      node.data = resized(node.data, operation.size);
      return;
    }
    if (operation.op === 'punch') {
      const end = operation.offset + operation.length;
      node.data = Buffer.from(node.data).fill(0, operation.offset, Math.min(end, node.data.length));
      return;
    }
    this.#store(operation, operation.length);
  }

  /** The first `count` bytes of a write. */
  #store({ path, offset, length, seed }: Of<'write' | 'append'>, count: number): void {
    const node = this.#file(path);
    node.data = resized(node.data, Math.max(node.data.length, offset + count));
    contents(seed, length).copy(node.data, offset, 0, count);
  }
}

/** A copy: a version of a file that somebody has seen is never changed. */
function resized(data: Buffer, size: number): Buffer {
  const copy = Buffer.alloc(size);
  data.copy(copy, 0, 0, Math.min(size, data.length));
  return copy;
}
