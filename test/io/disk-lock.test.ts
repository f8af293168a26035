/**
 * A directory has one process, whoever starts when and dies where. Two processes of one network
 * namespace are kept apart by the abstract socket; what is looked at here is the rest: sockets in
 * the directory, with starters that do not see each other's abstract ones.
 */
import { spawnSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { inspectDirectories } from '../../src/cli/node-directories.js';
import type { HoldfastError } from '../../src/core/errors.js';
import { type DiskLock, lockInside } from '../../src/io/node/disk-lock.js';
import { distRoot, endAll, Process } from '../fixtures/processes.js';

const READY_MS = 30_000;
const ROUNDS = 8;
const STARTERS = 3;
const dead = (digit: string): string => `lock-${digit.repeat(32)}`;

/** Where several that are told apart as processes of different network namespaces would start. */
class Place {
  readonly directory = mkdtempSync(join(tmpdir(), 'hf-lock-'));
  readonly #fd = openSync(this.directory, constants.O_RDONLY | constants.O_DIRECTORY);

  constructor(t: Test) {
    t.teardown(() => rmSync(this.directory, { recursive: true }));
  }

  names(): string[] {
    return readdirSync(this.directory).sort();
  }

  start(): Promise<{ error: HoldfastError | null; lock: DiskLock | null }> {
    return new Promise((resolve) => {
      lockInside(this.directory, this.#fd, (error, lock) => resolve({ error, lock }));
    });
  }

  bind(name: string): Promise<Server> {
    return new Promise((resolve) => {
      const server = createServer((socket) => socket.destroy());
      server.listen(join(this.directory, name), () => resolve(server));
    });
  }

  /** What one that was killed leaves: Node.js removes a socket only by the name that it bound. */
  async leave(name: string): Promise<void> {
    const server = await this.bind('aside');
    renameSync(join(this.directory, 'aside'), join(this.directory, name));
    await new Promise((resolve) => server.close(resolve));
  }
}

t.teardown(endAll);

t.test('of several that start together over what is dead, one gets the directory', async (t) => {
  const place = new Place(t);
  for (const name of ['lock', dead('0'), dead('f'), `${dead('a')}-new`]) await place.leave(name);
  const found = inspectDirectories([place.directory]);
  t.match(found, [{ superblock: null }], 'the directory counts as empty');
  const all = await Promise.all(Array.from({ length: 5 }, () => place.start()));
  const locks = all.flatMap(({ lock }) => lock ?? []);
  t.equal(locks.length, 1, `${locks.length} of 5 have it`);
  for (const { error } of all) if (error !== null) t.equal(error.code, 'DISK_IN_USE');
  t.match((await place.start()).error, { code: 'DISK_IN_USE' });
  const mine = place.names().filter((name) => name !== 'lock');
  t.equal(mine.length, 1, `what is dead is gone: ${mine}`);

  locks[0]?.release();
  t.same(place.names(), ['lock'], 'an older program’s, which may come to life again, is left');
  const { lock } = await place.start();
  t.ok(lock, 'released');
  lock?.release();
});

t.test('a live one keeps the directory, whatever its name is', async (t) => {
  for (const name of [dead('0'), dead('f'), 'lock', 'lock.old']) {
    const place = new Place(t);
    const server = await place.bind(name);
    t.ok(inspectDirectories([place.directory]), 'it does not make the directory foreign');
    t.match((await place.start()).error, { code: 'DISK_IN_USE' }, name);
    t.same(place.names(), [name], 'and nothing is left of the one that was refused');
    await new Promise((resolve) => server.close(resolve));
    const { lock } = await place.start();
    t.ok(lock, `${name} ended`);
    lock?.release();
  }
});

t.test('one that is not yet visible has no claim', async (t) => {
  const place = new Place(t);
  const slow = await place.bind(`${dead('0')}-new`);
  const { lock } = await place.start();
  t.ok(lock);
  // It goes on now, and looks.
  renameSync(join(place.directory, `${dead('0')}-new`), join(place.directory, dead('0')));
  t.match((await place.start()).error, { code: 'DISK_IN_USE' });
  lock?.release();
  slow.close();
});

t.test('processes of different network namespaces, started together, killed again', async (t) => {
  if (spawnSync('unshare', ['--net', 'true']).status !== 0) {
    t.pass('network namespaces are not allowed here');
    return;
  }
  const { directory } = new Place(t);
  const taker = `${distRoot}test/fixtures/lock-taker.js`;
  let locked = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const starters = Array.from(
      { length: STARTERS },
      () => new Process('unshare', ['--net', process.execPath, taker, directory]),
    );
    const heard = (count: number): Promise<unknown> =>
      Promise.all(
        starters.map((one) =>
          one.until('word', READY_MS, () => (one.lines.length < count ? undefined : true)),
        ),
      );
    await heard(1);
    const at = Date.now() + 30;
    for (const one of starters) one.write(`${at}`);
    await heard(2);
    const words = starters.map(({ lines }) => lines[1]);
    const holders = words.filter((word) => word === 'locked').length;
    t.ok(holders <= 1, `round ${round}: ${words}`);
    locked += holders;
    // Each round leaves a dead socket to the next.
    await Promise.all(starters.map((one) => one.kill()));
  }
  t.ok(locked > 0, `one got it in ${locked} of ${ROUNDS} rounds`);
});
