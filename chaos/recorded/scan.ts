/**
 * Reads a real directory tree and says what each path looks like, in the words of tree.ts. As a
 * program it prints JSON: [[path, description], …] of the directory given. It runs as a process of
 * its own, so that a mount that hangs does not hang who asks.
 */
import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tree, type TreeNode } from './tree.js';

interface Found {
  readonly path: string;
  readonly inode: number;
  readonly node: TreeNode;
}

/** The tree below `root`, with all contents in memory. Throws what the system calls throw. */
export function readTree(root: string): Tree {
  const attributes = readAttributes(root);
  const tree = new Tree();
  const files = new Map<number, TreeNode>();
  for (const { path, inode, node } of walk(root, '')) {
    const known = node.kind === 'file' ? files.get(inode) : undefined;
    if (known?.kind === 'file') known.names.add(path);
    else if (node.kind === 'file') files.set(inode, node);
    for (const [name, value] of attributes.get(path) ?? []) node.xattrs.set(name, value);
    tree.nodes.set(path, known ?? node);
  }
  return tree;
}

function* walk(root: string, directory: string): Generator<Found> {
  for (const name of readdirSync(join(root, directory)).sort()) {
    const path = `${directory}/${name}`;
    const full = join(root, path);
    const stat = lstatSync(full);
    const mode = stat.mode & 0o7777;
    const xattrs = new Map<string, string>();
    if (stat.isDirectory()) {
      yield { path, inode: stat.ino, node: { kind: 'directory', mode, target: '', xattrs } };
      yield* walk(root, path);
    } else if (stat.isSymbolicLink()) {
      const target = readlinkSync(full);
      yield { path, inode: stat.ino, node: { kind: 'symlink', mode: 0, target, xattrs } };
    } else {
      const data = readFileSync(full);
      if (data.length !== stat.size) throw new Error(`${path}: ${data.length} of ${stat.size}`);
      const names = new Set([path]);
      yield { path, inode: stat.ino, node: { kind: 'file', mode, data, names, xattrs } };
    }
  }
}

/** Path to name to value of the extended attributes of users. */
function readAttributes(root: string): Map<string, Map<string, string>> {
  const args = ['-R', '-h', '-P', '-d', '-m', '^user\\.', '--absolute-names', '--', root];
  const text = execFileSync('getfattr', args, { maxBuffer: 2 ** 26, encoding: 'latin1' });
  const all = new Map<string, Map<string, string>>();
  let current = new Map<string, string>();
  for (const line of text.split('\n')) {
    const file = /^# file: (.*)$/.exec(line);
    const attribute = /^([^=]+)="(.*)"$/.exec(line);
    if (file !== null) {
      current = new Map();
      all.set((file[1] as string).slice(root.length), current);
    } else if (attribute !== null) current.set(attribute[1] as string, attribute[2] as string);
  }
  return all;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(JSON.stringify([...readTree(process.argv[2] as string).view()]));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
