/** The simplest filesystem that could be right: plain objects, whole-file buffers, no log. */
import { crc32 } from '../../src/core/checksum.js';
import { PAGE_BYTES } from '../../src/core/units.js';

export interface ModelNode {
  readonly id: number;
  readonly type: 'file' | 'directory' | 'symlink';
  mode: number;
  nlink: number;
  data: Buffer;
  /** Page → what it holds; no entry: a hole. */
  readonly pages: Map<number, 'data' | 'reserved'>;
  readonly entries: Map<string, ModelNode>;
  readonly xattrs: Map<string, string>;
  parent: ModelNode | null;
}

export class ModelError extends Error {
  readonly errno: string;
  constructor(errno: string) {
    super(errno);
    this.errno = errno;
  }
}

function refuse(condition: boolean, errno: string): void {
  if (condition) throw new ModelError(errno);
}

export class Model {
  readonly root: ModelNode;
  #ids = 0;

  constructor() {
    this.root = this.#node('directory', 0o755);
    this.root.parent = this.root;
    this.root.nlink = 2;
  }

  #node(type: ModelNode['type'], mode: number): ModelNode {
    return {
      id: this.#ids++,
      type,
      mode,
      nlink: 1,
      data: Buffer.alloc(0),
      pages: new Map(),
      entries: new Map(),
      xattrs: new Map(),
      parent: null,
    };
  }

  create(parent: ModelNode, name: string, type: ModelNode['type'], mode: number): ModelNode {
    refuse(parent.type !== 'directory', 'ENOTDIR');
    refuse(parent.nlink === 0, 'ENOENT');
    refuse(parent.entries.has(name), 'EEXIST');
    const node = this.#node(type, mode);
    if (type === 'directory') {
      node.nlink = 2;
      node.parent = parent;
      parent.nlink += 1;
    }
    parent.entries.set(name, node);
    return node;
  }

  lookup(parent: ModelNode, name: string): ModelNode {
    refuse(parent.type !== 'directory', 'ENOTDIR');
    const node = parent.entries.get(name);
    if (node === undefined) throw new ModelError('ENOENT');
    return node;
  }

  link(node: ModelNode, parent: ModelNode, name: string): void {
    refuse(parent.type !== 'directory', 'ENOTDIR');
    refuse(parent.nlink === 0, 'ENOENT');
    refuse(node.type === 'directory', 'EPERM');
    refuse(parent.entries.has(name), 'EEXIST');
    node.nlink += 1;
    parent.entries.set(name, node);
  }

  #drop(parent: ModelNode, node: ModelNode): void {
    if (node.type === 'directory') {
      node.nlink = 0;
      parent.nlink -= 1;
    } else {
      node.nlink -= 1;
    }
  }

  unlink(parent: ModelNode, name: string): void {
    const node = this.lookup(parent, name);
    refuse(node.type === 'directory', 'EISDIR');
    parent.entries.delete(name);
    this.#drop(parent, node);
  }

  rmdir(parent: ModelNode, name: string): void {
    const node = this.lookup(parent, name);
    refuse(node.type !== 'directory', 'ENOTDIR');
    refuse(node.entries.size > 0, 'ENOTEMPTY');
    parent.entries.delete(name);
    this.#drop(parent, node);
  }

  #inside(node: ModelNode, to: ModelNode): boolean {
    for (let at = to; ; at = at.parent as ModelNode) {
      if (at === node) return true;
      if (at === this.root) return false;
    }
  }

  rename(from: ModelNode, name: string, to: ModelNode, newName: string, flags: number): void {
    const node = this.lookup(from, name);
    refuse(to.type !== 'directory', 'ENOTDIR');
    refuse(to.nlink === 0, 'ENOENT');
    const victim = to.entries.get(newName);
    refuse(victim !== undefined && flags === 1, 'EEXIST');
    refuse(victim === undefined && flags === 2, 'ENOENT');
    refuse(node.type === 'directory' && this.#inside(node, to), 'EINVAL');
    if (flags === 2 && victim?.type === 'directory') refuse(this.#inside(victim, from), 'EINVAL');
    if (victim === node) return;
    if (flags === 2) {
      from.entries.set(name, victim as ModelNode);
      to.entries.set(newName, node);
      this.#reparent(victim as ModelNode, to, from);
    } else {
      if (victim !== undefined) {
        if (node.type === 'directory') {
          refuse(victim.type !== 'directory', 'ENOTDIR');
          refuse(victim.entries.size > 0, 'ENOTEMPTY');
        } else {
          refuse(victim.type === 'directory', 'EISDIR');
        }
        this.#drop(to, victim);
      }
      from.entries.delete(name);
      to.entries.set(newName, node);
    }
    this.#reparent(node, from, to);
  }

  #reparent(node: ModelNode, from: ModelNode, to: ModelNode): void {
    if (node.type !== 'directory' || from === to) return;
    node.parent = to;
    from.nlink -= 1;
    to.nlink += 1;
  }

  resize(node: ModelNode, size: number): void {
    refuse(node.type === 'directory', 'EISDIR');
    refuse(node.type === 'symlink', 'EINVAL');
    const data = Buffer.alloc(size);
    node.data.copy(data, 0, 0, size);
    if (size <= node.data.length) {
      for (const page of [...node.pages.keys()]) {
        if (page * PAGE_BYTES >= size) node.pages.delete(page);
      }
    }
    node.data = data;
  }

  #extend(node: ModelNode, end: number): void {
    if (end <= node.data.length) return;
    const data = Buffer.alloc(end);
    node.data.copy(data);
    node.data = data;
  }

  write(node: ModelNode, offset: number, data: Buffer): void {
    refuse(node.type === 'directory', 'EISDIR');
    refuse(node.type === 'symlink', 'EINVAL');
    if (data.length === 0) return;
    this.#extend(node, offset + data.length);
    node.data.set(data, offset);
    for (let page = Math.floor(offset / PAGE_BYTES); ; page++) {
      if (page * PAGE_BYTES >= offset + data.length) break;
      node.pages.set(page, 'data');
    }
  }

  fallocate(node: ModelNode, offset: number, length: number, mode: number): void {
    refuse(node.type === 'directory', 'EISDIR');
    refuse(node.type === 'symlink', 'EINVAL');
    const end = offset + length;
    const from = Math.floor(offset / PAGE_BYTES);
    const to = Math.ceil(end / PAGE_BYTES);
    if (mode !== 0 && mode !== 1) {
      node.data.fill(0, Math.min(offset, node.data.length), Math.min(end, node.data.length));
      for (let page = from; page < to; page++) {
        const whole = page * PAGE_BYTES >= offset && (page + 1) * PAGE_BYTES <= end;
        if (whole && (mode & 2) !== 0) node.pages.delete(page);
        if (whole && (mode & 16) !== 0) node.pages.set(page, 'reserved');
      }
    }
    if ((mode & 2) !== 0) return;
    for (let page = from; page < to; page++) {
      if (!node.pages.has(page)) node.pages.set(page, 'reserved');
    }
    if ((mode & 1) === 0) this.#extend(node, end);
  }

  /** Whole pages only, or up to the end of both files. */
  copyRange(from: ModelNode, at: number, to: ModelNode, toAt: number, length: number): number {
    const bytes = Math.min(length, from.data.length - at);
    if (bytes <= 0) return 0;
    refuse(from === to && at < toAt + bytes && toAt < at + bytes, 'EINVAL');
    refuse(at % PAGE_BYTES !== 0 || toAt % PAGE_BYTES !== 0, 'EXDEV');
    const isTail = at + bytes === from.data.length && toAt + bytes >= to.data.length;
    const count = isTail ? Math.ceil(bytes / PAGE_BYTES) : Math.floor(bytes / PAGE_BYTES);
    refuse(count === 0, 'EXDEV');
    const copied = Math.min(bytes, count * PAGE_BYTES);
    const copy = Buffer.from(from.data.subarray(at, at + copied));
    this.#extend(to, toAt + copied);
    to.data.set(copy, toAt);
    const pages: ('data' | 'reserved' | undefined)[] = [];
    for (let i = 0; i < count; i++) pages.push(from.pages.get(at / PAGE_BYTES + i));
    for (const [i, page] of pages.entries()) {
      if (page === undefined) to.pages.delete(toAt / PAGE_BYTES + i);
      else to.pages.set(toAt / PAGE_BYTES + i, page);
    }
    return copied;
  }

  /** Everything that can be reached, as text. */
  dump(): string {
    const lines: string[] = [];
    const seen = new Map<ModelNode, string>();
    const walk = (node: ModelNode, path: string): void => {
      const first = seen.get(node);
      seen.set(node, first ?? path);
      lines.push(`${path} ${first === undefined ? describe(node) : `= ${first}`}`);
      for (const name of [...node.entries.keys()].sort()) {
        walk(node.entries.get(name) as ModelNode, `${path}/${name}`);
      }
    };
    walk(this.root, '');
    return lines.join('\n');
  }
}

function describe(node: ModelNode): string {
  const xattrs = [...node.xattrs].sort().map(([name, value]) => `${name}=${value}`);
  const head = `${node.type} ${node.mode.toString(8)} ${node.nlink} [${xattrs.join(',')}]`;
  if (node.type === 'directory') return head;
  return `${head} ${node.data.length} ${node.pages.size} ${crc32(node.data)}`;
}
