/**
 * The runbook for the loss of a quorum (docs/RUNBOOKS.md), as it says: the machine that has a
 * volume mounted and two of the three nodes that store it are gone for good, and the third one has
 * rotten bytes. What is lost is said; nothing is changed until it is accepted; then all the rest
 * works.
 */
import { closeSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { nodeClock } from '../../src/io/node/clock.js';
import { nodeRandom } from '../../src/io/node/random.js';
import { writeGivenUp } from '../../src/metadata/given-up.js';
import type { NodeRecord, VolumeRecord } from '../../src/metadata/model.js';
import { openMetadata } from '../../src/metadata/open.js';
import type { ClusterNode } from '../fixtures/cluster.js';
import { cannotMount } from '../fuse/mounted.js';
import { AddedNodes } from './added-nodes.js';
import { type Mount, MountBed, type Said, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(300_000);

const MIB = 1 << 20;
const WAIT_MS = 90_000;
const bed = await MountBed.start();
const nodes = new AddedNodes(bed);
t.teardown(async () => {
  await nodes.close();
  await bed.close();
});
const directory = bed.directory('mnt');
/** The nodes that will be gone, and the one that stays. */
let lost: readonly [ClusterNode, ClusterNode, ClusterNode];

async function record(name = 'db'): Promise<VolumeRecord> {
  const { lines, stderr } = await bed.holdfast('volume', 'show', name, '--json');
  if (lines[0] === undefined) throw new Error(stderr);
  return JSON.parse(lines[0]) as VolumeRecord;
}

/** The first one to be lost is that which has all of the volume "single". */
async function cast(): Promise<readonly [ClusterNode, ClusterNode, ClusterNode]> {
  const [current] = (await record('single')).open;
  const { lines } = await bed.holdfast('node', 'ls', '--json');
  const all = JSON.parse(lines[0] ?? '[]') as NodeRecord[];
  const holder = all.find(({ node }) => node === current?.replicas[0]?.node)?.address;
  const isHolder = ({ port }: ClusterNode): boolean => holder === `127.0.0.1:${port}`;
  const sorted = [...bed.cluster.nodes].sort((a, b) => Number(isHolder(b)) - Number(isHolder(a)));
  return sorted as unknown as [ClusterNode, ClusterNode, ClusterNode];
}

/** As if a loss had been accepted that is none any more. */
async function giveUp({ volume, open }: VolumeRecord): Promise<void> {
  const parts = { clock: nodeClock, random: nodeRandom, env: {} };
  const store = await openMetadata(bed.cluster.etcd.url, parts);
  const segments = open.map(({ segment }) => ({ segment, pages: [{ page: 0, count: 1 }] }));
  await writeGivenUp(store, volume, {
    ...{ at: new Date().toISOString(), segments, losses: ['all of it'], end: [] },
  });
  await store.close();
}

/** Its keeper and its daemon end at once, and nobody tells anybody. */
async function loseMachine({ live, keeperPid }: Mount): Promise<void> {
  if (keeperPid !== null) process.kill(keeperPid, 'SIGKILL');
  process.kill(live.pid, 'SIGKILL');
  await shell(`umount -i -c -l ${directory}`);
  rmSync(join(bed.runDirectory, 'mounts'), { recursive: true, force: true });
}

/** A page of the largest segment on a node's disk is another one than it was. */
function rot(node: ClusterNode): void {
  const segments = join(node.directory, 'segments');
  const files = readdirSync(segments).flatMap((sub) =>
    readdirSync(join(segments, sub)).map((name) => join(segments, sub, name)),
  );
  const [largest = ''] = files.sort((a, b) => statSync(b).size - statSync(a).size);
  const file = openSync(largest, 'r+');
  writeSync(file, Buffer.alloc(4096, 0x5a), 0, 4096, 4 * MIB);
  closeSync(file);
}

/** Repeats a command until it says what it should. */
async function until(args: readonly string[], isSaid: (said: Said) => boolean): Promise<Said> {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const said = await bed.holdfast(...args);
    if (isSaid(said)) return said;
    if (Date.now() > deadline) {
      throw new Error(`${args.join(' ')}: ${said.code} ${said.stderr} ${said.lines.join('\n')}`);
    }
    await sleep(500);
  }
}

t.test('nothing is lost: recover says so, and changes nothing', async (t) => {
  await bed.holdfast('cluster', 'set', '--scrub-interval', 'off');
  await bed.holdfast('volume', 'create', 'single', '--size', '1GiB', '--replicas', '1');
  await bed.mount('single', directory);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  lost = await cast();
  await bed.mount('db', directory);
  const written = await shell(
    `cd ${directory} && mkdir d && dd if=/dev/urandom of=d/big bs=1M count=8 conv=fsync`,
  );
  t.equal(written.status, 0, written.text);
  const mounted = await bed.holdfast('volume', 'recover', 'db');
  t.equal(mounted.code, 0, mounted.stderr);
  t.match(mounted.lines.join('\n'), /db is mounted on .*\nvolume db: nothing is lost/);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  const before = await record();
  await giveUp(before);
  t.match(await record(), { givenUp: { losses: ['all of it'] } });
  const said = await bed.holdfast('volume', 'recover', 'db');
  t.equal(said.code, 0, said.stderr);
  const again = 'what is there again is not given up any more';
  t.equal(said.lines.join('\n'), `volume db: nothing is lost; ${again}`);
  t.same(await record(), before);
  const accepted = await bed.holdfast('volume', 'recover', 'db', '--accept-loss');
  t.equal(accepted.lines.join('\n'), 'volume db: nothing is lost');
});

t.test('two of three nodes are gone for good, and the machine that wrote', async (t) => {
  const mount = await bed.mount('db', directory);
  const [first, second, third] = lost;
  t.equal((await shell(`echo kept > ${directory}/d/small && sync ${directory}/d/small`)).status, 0);
  await loseMachine(mount);
  await Promise.all([first.kill(), second.kill()]);
  rot(third);
  for (const [node, why] of [
    [third, /has the only copy of parts of: db.*--accept-loss/],
    [first, /too few copies are left of what is written now in: db.*--accept-loss/],
  ] as const) {
    const refused = await bed.holdfast('node', 'rm', `127.0.0.1:${node.port}`, '--force');
    t.equal(refused.code, 18);
    t.match(refused.stderr, why);
  }
  const before = await record();
  // Until the machine's registration has run out it may be alive, and know where the log ends.
  const said = await until(['volume', 'recover', 'db', '--json'], ({ code, lines }) => {
    return code === 3 && JSON.parse(lines[0] ?? '{}').mounted === null;
  });
  const plan = JSON.parse(said.lines[0] ?? '');
  t.match(plan, { name: 'db', recoverable: true, accepted: false, givenUpAt: null });
  t.match(plan.end.segments[0], { answered: 1, needed: 2 });
  t.equal(plan.segments.length, 1);
  t.match(plan.segments[0], { pages: [{ count: 1 }], missing: [{ why: /./ }, { why: /./ }] });
  t.match(plan.files, [{ path: '/d/big', ranges: [{ length: 4096 }] }]);
  t.match(plan.losses.join('\n'), /file \/d\/big: 4096 bytes at \d+\nopen segment .* 1 of 3/);
  t.ok(Date.now() - Date.parse(plan.end.newest) < WAIT_MS, plan.end.newest);
  t.match(await record(), { epoch: before.epoch, open: before.open, sealed: before.sealed });
  const single = await bed.holdfast('volume', 'recover', 'single', '--accept-loss');
  t.equal(single.code, 27, 'there is nothing to go on with');
  t.match(single.stderr, /nothing of its log is left.* backup.*Nothing was changed/);
});

t.test('the loss is accepted: what is lost is EIO, all else works', async (t) => {
  const refused = await bed.holdfast('volume', 'recover', 'db', '--accept-loss');
  t.equal(refused.code, 20);
  t.match(refused.stderr, /written to 2 nodes, and 1 are up; nothing was changed.*add, nodes/);
  for (const zone of ['zone0', 'zone1']) await nodes.start(zone);
  const taken = await bed.holdfast('volume', 'recover', 'db', '--accept-loss', '--json');
  t.equal(taken.code, 0, taken.stderr);
  const { accepted, files } = JSON.parse(taken.lines[0] ?? '');
  t.equal(accepted, true);
  const [{ offset }] = files[0].ranges as [{ offset: number }];
  const again = await bed.holdfast('volume', 'recover', 'db');
  t.equal(again.code, 0, again.stderr);
  t.match(again.lines.join('\n'), /segment .*\n.*file .*\n.*all of it was given up at 2/);
  await bed.mount('db', directory);
  t.equal((await shell(`cat ${directory}/d/small`)).text, 'kept');
  const page = (at: number): string =>
    `dd if=${directory}/d/big of=/dev/null bs=4096 count=1 skip=${at} iflag=direct`;
  const lost = await shell(page(offset / 4096));
  t.not(lost.status, 0);
  t.match(lost.text, /Input\/output error/);
  t.equal((await shell(page(0))).status, 0, 'the rest of the file is there');
  const more = await shell(
    `cd ${directory} && rm d/big && dd if=/dev/urandom of=more bs=1M count=4 conv=fsync`,
  );
  t.equal(more.status, 0, more.text);
});

t.test('what is left is copied to the new nodes, and the dead ones are given up', async (t) => {
  for (const { port } of lost.slice(0, 2)) {
    const removed = await bed.holdfast('node', 'rm', `127.0.0.1:${port}`, '--accept-loss');
    t.equal(removed.code, 0, removed.stderr);
  }
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  await until(['node', 'ls', '--json'], ({ lines }) => {
    const nodes = JSON.parse(lines[0] ?? '[]') as { sealedSegments: number }[];
    return nodes.length === 3 && nodes.every(({ sealedSegments }) => sealedSegments > 0);
  });
  await bed.assertNothingLeft();
});
