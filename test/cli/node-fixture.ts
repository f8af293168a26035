/** What the tests of `holdfast node` share: places with a secret and a cluster, and runs. */
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { holdfastBin, type Process, startNode } from '../fixtures/processes.js';

const READY_MS = 30_000;
export const SECRET = 'a secret of these tests, longer than 32 bytes';

export interface Ready {
  readonly address: string;
  readonly advertise: string;
  readonly node: string;
  readonly cluster: string;
  readonly pid: number;
  readonly metrics: string | null;
}

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** No HOLDFAST_ variable of whoever runs the tests gets in. */
const CLEAN: Readonly<Record<string, string>> = Object.fromEntries(
  Object.keys(process.env)
    .filter((name) => name.startsWith('HOLDFAST_'))
    .map((name) => [name, '']),
);

export async function holdfast(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const child = startNode(holdfastBin, args, { env: { ...CLEAN, ...env } });
  const { code } = await child.exited;
  return { code, out: child.lines.join('\n'), err: child.stderr };
}

/** A directory with a secret and the metadata of a new cluster; removed at the end of the test. */
export class Place {
  readonly root = mkdtempSync(join(tmpdir(), 'holdfast-node-'));
  readonly secretFile = join(this.root, 'secret');
  readonly metadata = `embedded:${join(this.root, 'metadata')}`;

  static async make(t: Test): Promise<Place> {
    const place = new Place();
    t.teardown(() => rmSync(place.root, { recursive: true, force: true }));
    writeFileSync(place.secretFile, SECRET, { mode: 0o600 });
    await place.addCluster(place.metadata);
    return place;
  }

  /** Makes a cluster in a store; its own secret file is of no interest. */
  async addCluster(metadata: string): Promise<void> {
    const secret = join(this.root, `unused-${readdirSync(this.root).length}`);
    const args = ['cluster', 'init', '--metadata', metadata, '--secret-file', secret];
    const made = await holdfast(args);
    if (made.code !== 0) throw new Error(`cluster init: ${made.err}`);
  }

  directory(name: string): string {
    const path = join(this.root, name);
    mkdirSync(path);
    return path;
  }

  /** Arguments of a node that would start; `more` comes last and wins. */
  args(directory: string, ...more: string[]): string[] {
    return [
      'node',
      ...['--data-dir', directory, '--listen', '127.0.0.1:0', '--journal-size', '4MiB'],
      ...['--metadata', this.metadata, '--secret-file', this.secretFile, '--json'],
      ...more,
    ];
  }

  /** Starts a node and waits until it is ready. It is killed at the end of the test. */
  async start(
    t: Test,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ readonly child: Process; readonly ready: Ready }> {
    const child = startNode(holdfastBin, args, { env: { ...CLEAN, ...env } });
    t.teardown(() => child.kill());
    const line = await child.line(/"ready"/, READY_MS);
    return { child, ready: JSON.parse(line) as Ready };
  }

  /** Formats a directory by running a node on it for a moment. */
  async formatted(t: Test, name: string, ...more: string[]): Promise<string> {
    const directory = this.directory(name);
    const { child } = await this.start(t, this.args(directory, ...more));
    await child.stop();
    return directory;
  }
}

/** Every file below a directory with its content's hash: equal when nothing was changed. */
export function contents(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  return names.map((name) => {
    const path = join(directory, name);
    if (!lstatSync(path).isFile()) return name;
    return `${name} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
  });
}

/** One line on standard error, nothing on standard output, this exit code, these words. */
export function refused(t: Test, ended: Ended, code: number, words: RegExp, name = ''): void {
  const lines = ended.err.trim().split('\n');
  t.equal(ended.code, code, `${name}: exit code (${ended.err.trim()})`);
  t.equal(lines.length, 1, `${name}: one line`);
  t.match(lines[0], /^holdfast: [^\n]+$/, name);
  t.match(lines[0], words, name);
  t.notMatch(lines[0], /\bat .*\.js|undefined|\[object/, `${name}: for people`);
  t.equal(ended.out, '', name);
}

/** The arguments for people: without --json. */
export const plain = (args: readonly string[]): string[] =>
  args.filter((word) => word !== '--json');
