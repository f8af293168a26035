/** What an umount does when the metadata store does not answer: commits, says so, and returns. */
import t from 'tap';
import { cannotMount } from '../fuse/mounted.js';
import { MountBed, shell } from './mount-bed.js';

const skip = cannotMount();
if (skip !== false) {
  t.plan(0, skip);
  process.exit(0);
}
t.setTimeout(200_000);

const bed = await MountBed.start();
t.teardown(() => bed.close());
t.afterEach(() => bed.assertNothingLeft());
const directory = bed.directory('mnt');
const { members } = bed.cluster.etcd;

async function umountTimed() {
  const before = Date.now();
  const said = await bed.holdfast('umount', directory, '--json');
  return { ...said, ms: Date.now() - before };
}

t.test('a frozen metadata store', async (t) => {
  await bed.mount('db', directory, '--commit-interval', '60');
  // Enough for a checkpoint at the umount, and of late: nothing of it is committed.
  const wrote = await shell(`head -c 45000000 /dev/zero > ${directory}/f`);
  t.equal(wrote.status, 0, wrote.text);
  for (const member of members) member.pause();
  const { code, stderr, lines, ms } = await umountTimed();
  for (const member of members) member.resume();
  t.equal(code, 0, stderr);
  t.ok(ms < 12_000, `${ms} ms`);
  t.match(stderr, /committed, and free for others when its lease ends/);
  t.match(JSON.parse(lines[0] ?? '{}'), { released: false });
  t.match(bed.log('db'), /metadata store does not answer: the volume is free/);
  await bed.mount('db', directory);
  t.equal((await shell(`wc -c < ${directory}/f`)).text, '45000000', 'nothing is lost');
  const inOrder = await umountTimed();
  t.equal(inOrder.code, 0, inOrder.stderr);
  t.match(JSON.parse(inOrder.lines[0] ?? '{}'), { released: true });
  t.equal(inOrder.stderr, '');
});
