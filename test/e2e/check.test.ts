/** `holdfast volume check` on real nodes: sound, mounted, and with pages damaged on their disks. */
import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { DiskScrub } from '../../src/metadata/scrub-progress.js';
import { cannotMount } from '../fuse/mounted.js';
import { isAlive, MountBed, shell, until } from './mount-bed.js';
import { eventually } from './repair-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.comment(skip);
  process.exit(0);
}
t.setTimeout(300_000);

const PAGE_BYTES = 4096;
const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('checked');
/** Of the file whose page is damaged. */
let inode = 0;

interface Report {
  readonly findings: readonly { kind: string; what: string; inode?: number }[];
  readonly files: number;
  readonly bytesRead: number;
}

async function check(): Promise<{ code: number | null; stderr: string; report: Report | null }> {
  const { code, lines, stderr } = await bed.holdfast('volume', 'check', 'db', '--json');
  const line = lines[0];
  return { code, stderr, report: line === undefined ? null : (JSON.parse(line) as Report) };
}

const DAMAGE = 'damaged';
const DAMAGE_AT = 100;

/** Calls back with each page that begins with the marker, on the disk of one node. */
function eachPage(
  node: number,
  marker: Buffer,
  visit: (page: Buffer, file: number, at: number) => void,
): void {
  const segments = join(bed.cluster.nodes[node]?.directory ?? '', 'segments');
  for (const name of readdirSync(segments, { recursive: true, encoding: 'utf8' })) {
    const path = join(segments, name);
    if (!statSync(path).isFile()) continue;
    const file = openSync(path, 'r+');
    const page = Buffer.alloc(PAGE_BYTES);
    try {
      for (let at = 0; readSync(file, page, 0, PAGE_BYTES, at) === PAGE_BYTES; at += PAGE_BYTES) {
        if (page.subarray(0, marker.length).equals(marker)) visit(page, file, at);
      }
    } finally {
      closeSync(file);
    }
  }
}

/** Damages all pages that begin with the marker, on the disk of one node; returns how many. */
function damage(node: number, marker: Buffer): number {
  let damaged = 0;
  eachPage(node, marker, (_, file, at) => {
    writeSync(file, Buffer.from(DAMAGE), 0, DAMAGE.length, at + DAMAGE_AT);
    damaged += 1;
  });
  return damaged;
}

function isDamaged(node: number, marker: Buffer): boolean {
  let found = false;
  eachPage(node, marker, (page) => {
    found ||= page.toString('latin1', DAMAGE_AT, DAMAGE_AT + DAMAGE.length) === DAMAGE;
  });
  return found;
}

/**
 * What a check says of a damaged copy. A node mends what any read finds bad, and the check replays
 * the log before it reads the pages: when the node's next look falls between the two, the copy is
 * whole again and there is nothing to find. Only then may it find nothing, and is tried anew.
 */
async function checkOfDamaged(t: Test, marker: Buffer): Promise<Awaited<ReturnType<typeof check>>> {
  for (let tries = 1; ; tries++) {
    t.ok(damage(1, marker) > 0, 'one copy is damaged');
    const said = await check();
    if (said.code !== 0 || tries === 10) return said;
    t.notOk(isDamaged(1, marker), 'where nothing was found the copy has been repaired');
    // Damage that its node finds while it reads what it has repaired waits for a minute.
    await eventually('it was read again', async () => (await repaired()) >= tries);
  }
}

/** Copies that the nodes have made good, and read again. */
async function repaired(): Promise<number> {
  const { lines } = await bed.holdfast('status', '--json');
  const { scrub } = JSON.parse(lines[0] ?? '') as { scrub: Record<string, DiskScrub[]> };
  return Object.values(scrub)
    .flat()
    .reduce((sum, disk) => sum + disk.repaired, 0);
}

t.test('a sound volume, mounted and not', async (t) => {
  // Else a pass over all copies might find, and repair, what is damaged below before a check does.
  t.equal((await bed.holdfast('cluster', 'set', '--scrub-interval', 'off')).code, 0);
  await bed.mount('db', directory);
  const wrote = await shell(
    `for i in 1 2 3; do mkdir d$i; for j in 1 2 3 4 5; do head -c 300000 /dev/urandom > d$i/f$j;
     done; done; yes MARKER-OF-THIS-PAGE | head -c 20480 > marked; ln marked again; ln -s d1 link;
     head -c 45000000 /dev/zero > enough-for-a-checkpoint-at-the-umount;
     stat -c %i marked`,
    { cwd: directory },
  );
  t.equal(wrote.status, 0, wrote.text);
  inode = Number(wrote.text.split('\n').pop());
  const mounted = await check();
  t.equal(mounted.code, 18, 'CONFLICT');
  t.match(mounted.stderr, /is mounted at .*holdfast umount/);
  t.equal((await bed.holdfast('umount', directory)).code, 0);
  const { code, report, stderr } = await check();
  t.equal(code, 0, stderr);
  t.match(report, { findings: [], files: 18 });
  t.ok((report?.bytesRead ?? 0) > 3 * 4_500_000, `${report?.bytesRead} bytes of all copies`);
});

t.test('a damaged copy is found, and lost data is named', async (t) => {
  const marker = Buffer.from('MARKER-OF-THIS-PAGE');
  const one = await checkOfDamaged(t, marker);
  t.equal(one.code, 20, one.stderr);
  t.match(one.report?.findings, [{ kind: 'copy', what: /pages [\d ]+ are bad/ }]);
  t.equal(one.report?.findings.length, 1);
  await until('what the check has read is repaired', () => !isDamaged(1, marker));
  t.ok(
    [0, 1, 2].every((node) => damage(node, marker) > 0),
    'all copies are damaged',
  );
  const all = await check();
  t.equal(all.code, 27, all.stderr);
  const lost = all.report?.findings.find((one) => one.kind === 'page' && one.inode);
  t.match(lost, { what: 'page 0 is lost' });
  t.equal(lost?.inode, inode);
});

t.test(
  'a page lost behind the newest checkpoint: EIO for it, everything else is there',
  async (t) => {
    const { live, keeperPid } = await bed.mount('db', directory);
    const wrote = await shell(
      `yes LOST-BEFORE-IT-WAS-CHECKED | head -c 20480 > late; echo small > beside
     head -c 90000000 /dev/zero > more-than-a-segment; sync late beside more-than-a-segment
     stat -c %i late`,
      { cwd: directory },
    );
    t.equal(wrote.status, 0, wrote.text);
    for (const pid of [keeperPid ?? -1, live.pid]) process.kill(pid, 'SIGKILL');
    await until('both are gone', () => !isAlive(live.pid));
    t.equal((await bed.holdfast('umount', directory)).code, 0);
    const marker = Buffer.from('LOST-BEFORE-IT-WAS-CHECKED');
    for (const node of bed.cluster.nodes.keys()) t.ok(damage(node, marker) > 0);

    await bed.mount('db', directory);
    const found = await shell('cat beside; wc -c < more-than-a-segment; cat late', {
      cwd: directory,
    });
    t.match(found.text, /^small\n90000000\n/);
    t.match(found.text, /Input\/output error/);
    const read = await bed.holdfast('log', 'read', 'db', '--take-over');
    t.match([read.code, read.stderr], [2, /no plain log/], 'nobody takes a mount its volume');
    t.equal((await bed.holdfast('umount', directory)).code, 0);
    t.equal((await bed.holdfast('log', 'read', 'db')).code, 2);
    const { code, report, stderr } = await check();
    t.equal(code, 27, stderr);
    t.ok(
      report?.findings.some((one) => one.kind === 'page' && one.inode === Number(wrote.text)),
      JSON.stringify(report?.findings),
    );
  },
);
