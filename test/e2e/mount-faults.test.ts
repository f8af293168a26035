/** What a mount does when its daemon, its keeper, nodes, the metadata store or its rights go. */
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { NodeMountHost } from '../../src/io/node/mount-host.js';
import type { MountStatus } from '../../src/lifecycle/mount-types.js';
import { distRoot, startNode } from '../fixtures/processes.js';
import { cannotMount } from '../fuse/mounted.js';
import { isAlive, isMounted, MountBed, shell, until } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(400_000);

const bed = await MountBed.start();
// Reads are to find their way round nodes that fail.
bed.localReads = false;
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');

/** Somebody else's server, as soon as its port is free; 0: at any. */
async function listening(at: number): Promise<{ port: number; close(): Promise<unknown> }> {
  const server = createServer();
  while (!server.listening) {
    server.listen(at, '127.0.0.1');
    await once(server, 'listening').catch(() => sleep(50));
  }
  const { port } = server.address() as AddressInfo;
  return { port, close: () => once(server.close(), 'close') };
}

/** A small file system of its own as the run directory. */
class SmallRoom {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  static async make(path: string): Promise<SmallRoom> {
    mkdirSync(path, { recursive: true });
    const { status, text } = await shell(`mount -t tmpfs -o size=16m,mode=700 none ${path}`);
    if (status !== 0) throw new Error(text);
    return new SmallRoom(path);
  }

  /** To the last page. */
  fill(): void {
    const file = openSync(join(this.#path, 'filler'), 'w');
    const page = Buffer.alloc(4096);
    try {
      for (;;) writeSync(file, page);
    } catch {
      closeSync(file);
    }
  }

  free(): void {
    rmSync(join(this.#path, 'filler'));
  }

  async end(): Promise<void> {
    await shell(`umount -l ${this.#path}`);
  }
}

const write = (name: string): Promise<{ status: number | null; text: string }> =>
  shell(`cd ${directory} && echo ${name} > ${name} && sync ${name}`);

t.test('killed with its keeper, a daemon leaves what was fsynced', async (t) => {
  const { live, keeperPid } = await bed.mount('db', directory);
  t.equal((await write('fsynced')).status, 0);
  const writer = shell(`cd ${directory} && while echo more >> written; do :; done`);
  await sleep(300);
  process.kill(keeperPid ?? -1, 'SIGKILL');
  process.kill(live.pid, 'SIGKILL');
  await until('both are gone', () => !isAlive(live.pid));
  t.match(
    (await writer).text,
    /not connected|connection abort|Input\/output|I\/O error/,
    'its users get an error',
  );
  for (let i = 0; i < 2; i++) {
    t.match(
      await bed.mounts(),
      [{ state: 'dead', directory, live: null }],
      'looking changes nothing',
    );
  }
  const { code: mounted, stderr } = await bed.holdfast('mount', 'db', directory);
  t.equal(mounted, 0, stderr);
  t.notMatch(stderr, /waiting:/, 'nobody waits for the lease of a dead process of this machine');
  t.match(await bed.mounts(), [{ state: 'mounted', directory }], 'what was left is cleared');
  t.equal((await shell(`cat ${directory}/fsynced`)).text, 'fsynced');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a dead mount in the way is cleared by the next one', async (t) => {
  const { live, keeperPid } = await bed.mount('db', directory);
  process.kill(keeperPid ?? -1, 'SIGKILL');
  process.kill(live.pid, 'SIGKILL');
  await until('both are gone', () => !isAlive(live.pid));
  t.ok(isMounted(directory), 'nobody was left to take it away');
  const { code: mounted, stderr } = await bed.holdfast('mount', 'db', directory);
  t.equal(mounted, 0, stderr);
  t.notMatch(stderr, /waiting:/, 'nobody waits for the lease of a dead process of this machine');
  t.equal(bed.states.length, 1);
  t.equal((await shell(`cat ${directory}/fsynced`)).text, 'fsynced');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('umount clears what a dead daemon left', async (t) => {
  const { live, keeperPid } = await bed.mount('db', directory);
  process.kill(keeperPid ?? -1, 'SIGKILL');
  process.kill(live.pid, 'SIGKILL');
  await until('both are gone', () => !isAlive(live.pid));
  t.equal((await bed.holdfast('sync', directory)).code, 20);
  const { code, lines } = await bed.holdfast('umount', directory);
  t.equal(code, 0);
  t.match(lines[0], /cleared/);
  t.notOk(isMounted(directory));
  t.same(await bed.mounts(), []);
  const { code: mounted, stderr } = await bed.holdfast('mount', 'db', directory);
  t.equal(mounted, 0, stderr);
  t.notMatch(stderr, /waiting:/, 'its presence has ended with it');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a daemon whose keeper was killed goes on, and ends in order', async (t) => {
  const { live, keeperPid } = await bed.mount('db', directory);
  process.kill(keeperPid ?? -1, 'SIGKILL');
  await until('it is gone', () => !isAlive(keeperPid ?? -1));
  t.equal((await write('orphaned')).status, 0);
  t.match(await bed.mounts(), [{ state: 'mounted', keeperPid: null }]);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await until('it is gone', () => !isAlive(live.pid));
});

t.test('a full run directory costs nobody what was answered', async (t) => {
  const room = await SmallRoom.make(bed.runDirectory);
  t.teardown(() => room.end());
  const { live } = await bed.mount('db', directory, '--commit-interval', '60');
  await shell(`echo answered > ${directory}/answered`);
  room.fill();
  const large = `head -c 2000000 /dev/zero > ${directory}/large`;
  t.equal((await shell(large)).status, 0, 'it goes on, slower');
  const { mount } = (await bed.mounts())[0] as MountStatus;
  const host = new NodeMountHost({ runDirectory: bed.runDirectory, program: [] });
  const control = host.state.path(mount, 'control');
  const handed = await host.ask(control, { method: 'POST', path: '/hand-over' }, 60_000);
  t.match(handed, { status: 500, body: /cannot be used: ENOSPC/ }, 'it cannot be handed over');
  t.equal((await shell(`echo more >> ${directory}/answered`)).status, 0, 'and goes on');
  process.kill(live.pid, 'SIGKILL');
  await until('it is dead', () => !isAlive(live.pid));
  let waiting: string | undefined;
  const deadline = Date.now() + 60_000;
  while (!/ENOSPC/.test(waiting ?? '') && Date.now() < deadline) {
    waiting = (await bed.mounts()).map(({ state, live }) => `${state} ${live?.detail}`)[0];
  }
  t.match(waiting, /^adopting waiting: .*cannot be used: ENOSPC/, 'and says what it waits for');
  await sleep(1_500);
  t.match(await bed.mounts(), [{ mount, state: 'adopting' }], 'for as long as it takes');
  room.free();
  t.equal((await shell(`cat ${directory}/answered`)).text, 'answered\nmore');
  t.equal((await shell(`wc -c < ${directory}/large`)).text, '2000000');
  t.match(bed.log('db'), /"msg":"waiting: .*ENOSPC/, 'also in the log');
  room.fill();
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await until('nothing is left', () => bed.states.length === 0);
});

t.test('a port for metrics that is taken when the daemon dies ends no mount', async (t) => {
  const { port, close } = await listening(0);
  await close();
  const metrics = ['--metrics', `127.0.0.1:${port}`, '--commit-interval', '60'];
  const { live, keeperPid } = await bed.mount('db', directory, ...metrics);
  await shell(`echo unseen > ${directory}/unseen`);
  process.kill(keeperPid ?? -1, 'SIGSTOP');
  process.kill(live.pid, 'SIGKILL');
  const taken = await listening(port);
  process.kill(keeperPid ?? -1, 'SIGCONT');
  t.equal((await shell(`cat ${directory}/unseen`)).text, 'unseen');
  t.match(bed.log('db'), /"code":"ADDRESS_IN_USE".*goes on without its metrics/);
  await taken.close();
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a newer owner: EIO, a line in the log, the mount goes, nothing is written', async (t) => {
  await bed.mount('db', directory, '--commit-interval', '60');
  const go = join(bed.root, 'go');
  const user = shell(
    `cd ${directory} && exec 3> held && sync held && touch ${go}
      while [ -e ${go} ]; do sleep 0.1; done
      echo late >&3; sync held; cat fsynced`,
  );
  await until('the user runs', () => existsSync(go));
  const { etcd, secretFile } = bed.cluster;
  const rival = startNode(`${distRoot}test/fixtures/log-worker.js`, [etcd.url, secretFile, 'db']);
  await rival.line(/^serving/, 60_000);
  await until('the mount is taken away', () => !isMounted(directory));
  await shell(`rm ${go}`);
  t.match((await user).text, /Input\/output error|not connected|connection abort/);
  t.match(bed.log('db'), /"takenBy":"[^"]+".*"msg":"The mount has lost its volume/);
  t.same(
    (await bed.mounts()).filter(({ state }) => state === 'mounted'),
    [],
  );
  rival.write('release');
  await rival.line(/^released/, 30_000);
  await rival.exited;
  await until('the daemon is gone', () => bed.states.length === 0 || !isMounted(directory));
  await bed.mounts();
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/held`)).text, '', 'what came too late is not there');
  t.equal((await shell(`cat ${directory}/fsynced`)).text, 'fsynced');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('nodes die one after another, and come back', async (t) => {
  await bed.mount('db', directory);
  for (const [at, node] of bed.cluster.nodes.entries()) {
    await node.kill();
    const { status, text } = await write(`without-${at}`);
    t.equal(status, 0, text);
    await node.start();
    // It must have what the others have before the next one may go.
    await write(`with-${at}`);
    await sleep(4_000);
  }
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await bed.mount('db', directory);
  const { text } = await shell(`cd ${directory} && cat without-* with-* | wc -l`);
  t.equal(text, '6');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('without the metadata store, a mounted volume reads, writes and unmounts', async (t) => {
  const { live } = await bed.mount('db', directory);
  const { members } = bed.cluster.etcd;
  for (const member of members) await member.kill();
  t.equal((await write('unattended')).status, 0);
  t.equal((await shell(`cat ${directory}/unattended`)).text, 'unattended');
  await sleep(11_000);
  t.equal((await write('unattended-later')).status, 0, 'also when all leases have run out');
  t.equal((await shell(`umount ${directory}`)).status, 0);
  await until('the daemon gives the release up', () => !isAlive(live.pid), 30_000);
  for (const member of members) {
    member.start();
    await member.ready();
  }
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/unattended-later`)).text, 'unattended-later');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('without enough nodes a mount says that it waits, and umount leaves it', async (t) => {
  await bed.mount('db', directory, '--commit-interval', '60');
  const [first, second] = bed.cluster.nodes;
  await first?.kill();
  await second?.kill();
  await sleep(3_000);
  t.match((await bed.mounts())[0]?.live, { waitingSince: null }, 'nobody uses it');
  const pending = shell(`cd ${directory} && echo x > pending && sync pending`);
  await sleep(3_000);
  const { lines } = await bed.holdfast('mounts');
  t.match(lines.join('\n'), / waiting .*began to wait for nodes \d+ s ago; "holdfast status"/s);
  const { code, stderr } = await bed.holdfast('umount', directory, '--timeout', '2');
  t.equal(code, 21, stderr);
  t.match(stderr, /not committed within 2 s: still mounted/);
  t.ok(isMounted(directory));
  await first?.start();
  await second?.start();
  t.equal((await pending).status, 0);
  t.match((await bed.mounts())[0], { state: 'mounted', live: { waitingSince: null } });
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('who waits for nodes can be killed, and hears of no other signal', async (t) => {
  await bed.mount('db', directory, '--commit-interval', '60');
  t.equal(
    (await shell(`cd ${directory} && mkdir other && echo old > file && sync file`)).status,
    0,
  );
  // The thread that asks is not the one that is left to wait.
  const fio =
    'fio --name=read --filename=data --size=8M --rw=randread --direct=1 --ioengine=libaio ' +
    '--iodepth=4 --thread --time_based --runtime=300';
  const pidFile = join(bed.root, 'reader');
  const reader = shell(`cd ${directory} && echo $$ > ${pidFile} && exec ${fio}`);
  await until('there is something to read', () => existsSync(`${directory}/data`));
  await sleep(2_000);
  const [first, second] = bed.cluster.nodes;
  await first?.kill();
  await second?.kill();
  // Until answers from memory are not allowed any more.
  await sleep(11_000);
  // In a directory of its own, since the kernel lets one program at a time make names in each.
  const patient = shell(
    `cd ${directory}/other && perl -e '$SIG{ALRM} = sub { $heard++ }; alarm 1;
      mkdir "patient" or die "$!"; print "made after $heard"'`,
  );
  const commands = [
    `timeout -s KILL 3 mkdir ${directory}/killed`,
    `timeout -s KILL 3 dd if=/dev/zero of=${directory}/file bs=4096 count=1 conv=notrunc,fsync`,
    `timeout -s KILL 3 cat ${directory}/missing`,
    `timeout 3 stat ${directory}/another-missing`,
  ];
  const ends = commands.map(async (command) => (await shell(command)).status);
  process.kill(Number(readFileSync(pidFile, 'latin1')), 'SIGKILL');
  // timeout(1) ends as its program did.
  ends.push(reader.then(({ status }) => status));
  t.same(await Promise.race([Promise.all(ends), sleep(15_000)]), [137, 137, 137, 124, null]);
  await first?.start();
  await second?.start();
  t.same(await patient, { status: 0, text: 'made after 1' });
  t.equal(
    (await shell(`ls ${directory}/killed; cat ${directory}/file`)).text.split('\n').at(-1),
    'old',
  );
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});

t.test('a daemon that stands still is said to, and loses nothing', async (t) => {
  const { live } = await bed.mount('db', directory, '--commit-interval', '60');
  await shell(`echo paused > ${directory}/paused`);
  process.kill(live.pid, 'SIGSTOP');
  t.match(await bed.mounts(), [{ state: 'unresponsive', live: null }]);
  const { code, stderr } = await bed.holdfast('umount', directory, '--timeout', '1');
  t.equal(code, 21, stderr);
  t.ok(isMounted(directory));
  const tried = await bed.holdfast('mount', 'db', bed.directory('other'));
  t.equal(tried.code, 18, tried.stderr);
  process.kill(live.pid, 'SIGCONT');
  t.equal((await shell(`cat ${directory}/paused`)).text, 'paused');
  t.equal((await bed.holdfast('umount', directory)).code, 0);
});
