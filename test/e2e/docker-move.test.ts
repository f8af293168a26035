/**
 * Two engines on two machines that share a cluster: a volume moves in order, is not pulled away
 * from who lives, and is taken over from who is cut off or dead, who then can do nothing to it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { DockerBed, type DockerHost } from './docker-bed.js';
import { cannotRunDocker } from './docker-machine.js';
import { countLines, lastAcked, Writer } from './docker-writer.js';

t.setTimeout(400_000);
const why = cannotRunDocker();
if (why !== false) {
  t.plan(0, why);
  process.exit(0);
}

/** After an orderly release. */
const MOVE_MS = 20_000;
/** The presence of a dead machine ends within 10 s; then the takeover, and a container. */
const TAKEOVER_MS = 60_000;

const bed = await DockerBed.start(2);
t.teardown(() => bed.close());
const [first, second] = bed.hosts as [DockerHost, DockerHost];

t.test('in order', async (t) => {
  await first.must('volume', 'create', '-d', 'holdfast', '-o', 'size=64MiB', 'db');
  const writer = await Writer.start(first, 'orderly', 'db');
  const acked = await writer.more(20);
  await first.must('rm', '-f', 'orderly');
  const since = Date.now();
  const lines = await countLines(second, 'db');
  const took = Date.now() - since;
  t.comment(`released there, used here after ${took} ms`);
  t.ok(took < MOVE_MS);
  t.ok(lines >= acked);
  t.match(await second.must('volume', 'ls', '-q'), /^db$/m, 'both know it');
  t.same(await first.leftovers(), []);
  t.same(await second.leftovers(), []);
});

t.test('who lives keeps it', async (t) => {
  const writer = await Writer.start(first, 'living', 'db');
  await writer.more(5);
  const refused = await second.run(['db:/data'], 'cat /data/wal');
  t.not(refused.code, 0);
  t.match(refused.text, /"db" is mounted on machine0 at \/var\/lib\/holdfast\/volumes\/db/);
  t.match((await second.docker('volume', 'rm', 'db')).text, /mounted at .* on machine0/);
  await writer.more(5);
  t.same(await second.leftovers(), [], 'nothing half made');
  t.match(await second.must('volume', 'inspect', 'db'), /"mounted": "on machine0 at/);
  await first.must('rm', '-f', 'living');
});

t.test('cut off the network: taken over, and shut out', async (t) => {
  const writer = await Writer.start(first, 'cut', 'db');
  const other = await Writer.start(first, 'fenced', 'db2');
  await writer.more(20);
  await other.more(1);
  await first.machine.plug(false);
  const since = Date.now();
  const successor = await Writer.start(second, 'successor', 'db');
  t.comment(`taken over after ${Date.now() - since} ms`);
  t.ok(Date.now() - since < TAKEOVER_MS);
  await successor.more(20);
  t.match(await second.holdfast('volume', 'fence', 'db2'), /machine0/, 'by hand, for nobody');
  const acked = lastAcked(await writer.said());
  const fenced = lastAcked(await other.said());
  await first.machine.plug(true);
  const failed = async (one: Writer): Promise<boolean> => (await one.said()).includes('FAILED');
  for (let waited = 0; waited < 60_000; waited += 500) {
    if ((await failed(writer)) && (await failed(other))) break;
    await sleep(500);
  }
  t.same([await failed(writer), await failed(other)], [true, true], 'there it gets errors');
  t.equal(lastAcked(await writer.said()), acked, 'and nothing acknowledged any more');
  t.equal(lastAcked(await other.said()), fenced);
  await successor.more(20);
  await first.docker('rm', '-f', 'cut', 'fenced');
  t.same(await first.leftovers(), []);
  const last = await successor.more(1);
  await second.must('rm', '-f', 'successor');
  const lines = await countLines(first, 'db');
  t.ok(lines >= last && lines >= acked, 'every line as its writer acknowledged it');
});

t.test('a machine dies', async (t) => {
  const writer = await Writer.start(first, 'doomed', 'db');
  await writer.more(20);
  const orphan = await first.must('volume', 'create', '-d', 'holdfast', 'orphan');
  await Writer.start(first, 'other', orphan);
  const acked = await writer.acked();
  await first.machine.die();
  const since = Date.now();
  const successor = await Writer.start(second, 'heir', 'db');
  t.comment(`taken over after ${Date.now() - since} ms`);
  t.ok(Date.now() - since < TAKEOVER_MS);
  await successor.more(5);
  await second.must('rm', '-f', 'heir');
  t.ok((await countLines(second, 'db')) > acked);
  await second.must('volume', 'rm', orphan);
  t.notMatch(await second.must('volume', 'ls', '-q'), /orphan/, 'what died with it can be removed');
  t.same(await second.leftovers(), []);
});
