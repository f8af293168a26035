/**
 * What the tests of real programs share: one cluster with a mounted volume for a file of tests,
 * shell scripts under a time limit that may hang with the mount without hanging the test, and
 * trees that have everything in them that a filesystem can hold.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { System } from '../../chaos/system.js';
import { endAll, Process } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';

const VOLUME_BYTES = 8 * 2 ** 30;
const DEFAULT_SECONDS = 120;

/** HOLDFAST_PROGRAMS=long: sizes at which programs take minutes. */
export const LONG = process.env.HOLDFAST_PROGRAMS === 'long';

export class Programs {
  readonly system: System;
  /** Not on the volume. */
  readonly local: string;

  private constructor(system: System) {
    this.system = system;
    this.local = join(system.root, 'local');
    mkdirSync(this.local);
  }

  /** For a whole file of tests; ends it with a reason where nothing can be mounted. */
  static async start(): Promise<Programs> {
    const reason = cannotMount();
    if (reason !== false) {
      t.plan(0, reason);
      process.exit(0);
    }
    t.setTimeout(LONG ? 3_600_000 : 600_000);
    if (!LONG) t.comment('in short; HOLDFAST_PROGRAMS=long takes minutes and larger sizes');
    const programs = new Programs(await System.start({ sizeBytes: VOLUME_BYTES }));
    t.teardown(async () => {
      await programs.system.close();
      await endAll();
    });
    return programs;
  }

  /** A new directory on the volume. */
  directory(name: string): string {
    const path = join(this.system.mountPoint, name);
    mkdirSync(path);
    return path;
  }

  /** Everything in memory is forgotten: what is read next was stored. */
  async remount(): Promise<void> {
    await this.system.unmount();
    await this.system.mount();
  }
}

/** Runs a script in a directory; resolves with its output, rejects with it when it fails. */
export async function script(
  directory: string,
  text: string,
  seconds = LONG ? DEFAULT_SECONDS * 10 : DEFAULT_SECONDS,
): Promise<string> {
  const full = `set -e; cd '${directory}'; ${text}`;
  const env = { LC_ALL: 'C', TZ: 'UTC', GIT_CONFIG_GLOBAL: '/dev/null', HOME: '/nonexistent' };
  const args = ['-k', '5', `${seconds}`, 'bash', '-c', full];
  const process = new Process('timeout', args, { cwd: '/', env });
  const { code } = await process.exited;
  const said = process.lines.join('\n');
  if (code === 0) return said;
  throw new Error(`exit ${code}: ${said.slice(-2000)}\n${process.stderr.slice(-2000)}`);
}

/** Why a program's test cannot run, or an object for tap that says so. */
export function needs(...commands: string[]): { skip?: string } {
  const path = (process.env.PATH ?? '').split(':').concat('/usr/sbin', '/sbin');
  const missing = commands.filter((name) => !path.some((each) => existsSync(join(each, name))));
  return missing.length === 0 ? {} : { skip: `${missing.join(', ')} not installed` };
}

/**
 * Fills a directory with files of all types: names of all kinds, hard and symbolic links, holes,
 * extended attributes, ACLs, odd owners, modes and times, devices, fifos and sockets, and `files`
 * plain ones.
 */
export function everyKindOfFile(files: number): string {
  return `
    mkdir -p plain deep/a/b/c/d/e empty
    for n in $(seq ${files}); do
      d=plain/$((n % 20)); mkdir -p $d; head -c $((n * 37 % 9000)) /dev/urandom > $d/file-$n
    done
    head -c 3000000 /dev/urandom > large
    truncate -s 50M sparse; printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
    echo hello > 'with space'; echo hello > $'new\\nline'; echo hello > 'ünïcödé'
    echo hello > "$(printf 'n%.0s' $(seq 250))"; echo x > $'\\xff\\xfe'
    ln large deep/a/second-name; ln large deep/third-name
    ln -s ../large deep/link; ln -s /nonexistent/dangling dangling; ln -s . loop
    mknod fifo p; mknod block b 7 200; mknod character c 1 3
    mkdir attributes; echo a > attributes/a; setfattr -n user.one -v 1 attributes/a
    setfattr -n user.two -v "$(head -c 2000 /dev/zero | tr '\\0' v)" attributes/a
    setfattr -n user.directory -v yes attributes; setfattr -n trusted.t -v root attributes/a
    mkdir acl; setfacl -d -m u:daemon:rwx,g:bin:r-x acl; echo b > acl/inherited
    setfacl -m u:nobody:r--,g:daemon:rw- acl/inherited
    echo o > owned; chown 12345:54321 owned; chmod 4755 owned; mkdir sticky; chmod 1777 sticky
    echo ro > read-only; chmod 0400 read-only
    touch -d '1969-12-31 23:59:59.123456789' old; touch -d '2200-01-01 00:00:00.987654321' new
    touch -h -d '2001-02-03 04:05:06.7' dangling; touch -d '2010-11-12' empty deep`;
}
