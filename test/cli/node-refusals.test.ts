/**
 * What `holdfast node` refuses to start with: bad options, settings and data directories. Each has
 * an exit code of its kind and one line that says what to do, and leaves the disk as it was.
 */
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { crc32 } from '../../src/core/checksum.js';
import { freePorts } from '../fixtures/etcd.js';
import { contents, type Ended, holdfast, Place, plain, refused } from './node-fixture.js';

t.test('bad options', async (t) => {
  const place = await Place.make(t);
  const directory = place.directory('data');
  const good = plain(place.args(directory));
  const without = (flag: string): string[] =>
    good.filter((word, at) => word !== flag && good[at - 1] !== flag);
  const short = join(place.root, 'short');
  writeFileSync(short, 'secret\n');
  const cases: [string[], number, RegExp][] = [
    [['node'], 2, /--data-dir is missing\. Give --data-dir, HOLDFAST_DATA_DIR/],
    [without('--metadata'), 2, /--metadata is missing/],
    [without('--secret-file'), 2, /secret is missing/],
    [[...good, '--secret-file', short], 2, /fewer than 16 characters/],
    [[...good, '--secret-file', '/no/such/file'], 2, /cannot be read: ENOENT/],
    [[...good, '--listen', '127.0.0.1'], 2, /--listen: .*is not HOST:PORT.*127\.0\.0\.1:7400/],
    [[...good, '--listen', '::1:7400'], 2, /is not HOST:PORT.*brackets/],
    [[...good, '--listen', '127.0.0.1:70000'], 2, /is not HOST:PORT/],
    [[...good, '--listen', '192.0.2.1:0'], 2, /cannot listen on 192\.0\.2\.1:0/],
    [[...good, '--listen', '0.0.0.0:0'], 2, /others cannot reach.*--advertise/],
    [[...good, '--advertise', '127.0.0.1:0'], 2, /others cannot reach/],
    [[...good, '--metrics-listen', 'nowhere'], 2, /--metrics-listen/],
    [[...good, '--capacity', '10GB'], 2, /--capacity: .*"GB" is not known.*10GiB/],
    [[...good, '--capacity', 'much'], 2, /is not known|is not a size/],
    [[...good, '--journal-size', '1MiB'], 2, /is not 4MiB to 64GiB/],
    [[...good, '--zone', 'a b'], 2, /--zone: a zone is made of/],
    [[...good, '--log-level', 'loud'], 2, /--log-level/],
    [[...good, '--metadata', 'etcd://a:b:c'], 2, /--metadata/],
    [[...good, '--metadata', 'ftp://x'], 2, /--metadata/],
    [[...good, '--bogus'], 2, /unknown option '--bogus'/],
    [[...good, '--data-dir', directory], 2, /named twice/],
    [[...good, '--config', '/no/such/file'], 12, /cannot read the configuration file/],
  ];
  for (const [args, code, words] of cases) {
    refused(t, await holdfast(args), code, words, args.slice(good.length).join(' '));
  }
  t.same(contents(directory), []);
});

t.test('bad settings elsewhere are named by where they stand', async (t) => {
  const place = await Place.make(t);
  const directory = place.directory('data');
  const good = plain(place.args(directory));
  const file = join(place.root, 'config.json');
  const cases: [unknown, RegExp][] = [
    ['{', /is not JSON/],
    ['[]', /is not a JSON object/],
    [{ node: { capacity: '10GB' } }, /"capacity" in .*config\.json: .*GB/],
    [{ node: { capcity: '10GiB' } }, /"node" has no setting "capcity"/],
    [{ node: 5 }, /"node" is not a JSON object/],
    [{ zone: 5 }, /"zone" in .*config\.json/],
  ];
  for (const [content, words] of cases) {
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    refused(t, await holdfast([...good, '--config', file]), 2, words, String(words));
  }
  const env = { HOLDFAST_CAPACITY: '3XB' };
  refused(t, await holdfast(good, env), 2, /HOLDFAST_CAPACITY: .*XB/, 'environment');
  t.same(contents(directory), []);
});

t.test('data directories that are not for it', async (t) => {
  const place = await Place.make(t);
  const start = async (directory: string, ...more: string[]): Promise<Ended> =>
    holdfast(plain(place.args(directory, ...more)));

  refused(t, await start('/no/such/directory'), 12, /does not exist\. Create it/, 'missing');
  refused(t, await start(place.secretFile), 2, /is not a directory/, 'a file');

  const foreign = place.directory('foreign');
  writeFileSync(join(foreign, 'thesis.txt'), 'precious');
  const before = contents(foreign);
  refused(t, await start(foreign), 13, /is not empty \(thesis\.txt\)/, 'foreign');
  t.same(contents(foreign), before);

  const first = await place.formatted(t, 'first');
  const second = await place.formatted(t, 'second');
  const both = [contents(first), contents(second)];
  const mixed = await start(first, '--data-dir', second);
  refused(t, mixed, 15, /belong to different nodes/, 'of two nodes');

  const elsewhere = `embedded:${join(place.root, 'elsewhere')}`;
  await place.addCluster(elsewhere);
  const strange = await start(first, '--metadata', elsewhere);
  refused(t, strange, 14, /belongs to cluster [0-9a-f]{32}, .*--data-dir/, 'of another cluster');
  t.same([contents(first), contents(second)], both);
});

t.test('a copy of the directory of a node that runs', async (t) => {
  const place = await Place.make(t);
  const original = await place.formatted(t, 'original');
  const copy = join(place.root, 'copy');
  cpSync(original, copy, { recursive: true });
  const before = contents(copy);
  const first = await place.start(t, place.args(original));
  const address = first.ready.advertise.replaceAll('.', '\\.');
  const words = new RegExp(`${first.ready.node.slice(0, 8)}.* serves at ${address} already.*copy`);
  refused(t, await holdfast(plain(place.args(copy))), 26, words, 'beside it');
  t.same(contents(copy), before);

  await first.child.kill();
  const again = await place.start(t, place.args(original));
  t.equal(again.ready.node, first.ready.node, 'one that was killed starts before its lease ends');
});

t.test('an empty directory where a disk of this node should be', async (t) => {
  const place = await Place.make(t);
  const listen = ['--advertise', `127.0.0.1:${(await freePorts(1))[0]}`];
  const one = place.directory('one');
  const { child, ready } = await place.start(t, place.args(one, ...listen));
  await child.stop();
  const name = ready.node.slice(0, 8);
  const mountPoint = place.directory('mount-point');
  const away = await holdfast(plain(place.args(mountPoint, ...listen)));
  refused(
    t,
    away,
    12,
    /is empty, and node .* has a disk that is not found\. Mount/,
    'its only one',
  );
  t.match(away.err, `holdfast node rm ${name} --force`);
  t.same(contents(mountPoint), []);

  const two = place.directory('two');
  const first = await place.start(t, place.args(one, '--data-dir', two, ...listen));
  t.equal(first.ready.node, ready.node, 'one more disk is welcome');
  await first.child.stop();
  const other = place.args(one, '--data-dir', mountPoint, ...listen);
  const half = await holdfast(plain(other));
  refused(t, half, 12, /this node, .*start once without this directory/, 'one of two');
  t.same(contents(mountPoint), []);
  const alone = await place.start(t, place.args(one, ...listen));
  await alone.child.until('its registration', 30_000, () =>
    alone.child.stderr.includes('"registered":true') ? true : undefined,
  );
  await alone.child.stop();
  const replaced = await place.start(t, other);
  t.equal(replaced.ready.node, ready.node, 'what was given up is replaced');
  await replaced.child.stop();

  const session = ['--metadata', place.metadata, '--secret-file', place.secretFile];
  const removed = await holdfast(['node', 'rm', name, '--force', ...session]);
  t.equal(removed.code, 0, removed.err);
  const anew = await place.start(t, place.args(place.directory('anew'), ...listen));
  t.not(anew.ready.node, ready.node, 'and so is a whole node');
  const back = await holdfast(plain(place.args(one)));
  refused(t, back, 18, /this node, .* was removed from the cluster.*empty their directories/, 'rm');
});

t.test('superblocks that it cannot or must not read', async (t) => {
  const place = await Place.make(t);
  const directory = await place.formatted(t, 'data');
  const path = join(directory, 'superblock');
  const good = readFileSync(path);
  const start = (): Promise<Ended> => holdfast(plain(place.args(directory)));

  const newer = Buffer.from(good);
  for (const at of [0, 4096]) {
    newer.writeUInt16LE(99, at + 4);
    newer.writeUInt32LE(crc32(newer.subarray(at, at + 4092)), at + 4092);
  }
  writeFileSync(path, newer);
  const before = contents(directory);
  refused(
    t,
    await start(),
    11,
    /format 99, known here are 1 to 2.*Nothing was changed.*the next one/,
    'newer',
  );
  t.same(contents(directory), before);

  writeFileSync(path, Buffer.alloc(8192, 7));
  const rotten = contents(directory);
  refused(t, await start(), 10, /superblock/, 'rotten');
  t.same(contents(directory), rotten);

  const cut = place.directory('cut');
  writeFileSync(join(cut, 'superblock'), good.subarray(0, 512));
  writeFileSync(join(cut, 'journal'), '');
  const formed = contents(cut);
  refused(t, await holdfast(plain(place.args(cut))), 10, /superblock/, 'torn, beside a journal');
  t.same(contents(cut), formed);
  rmSync(join(cut, 'journal'));
  const begun = await place.start(t, place.args(cut));
  t.equal(await begun.child.stop(), 0, 'what a power cut left of a first format is formed');
  const rest = Buffer.from(good);
  rest.fill(7, 0, 4096);
  writeFileSync(path, rest);
  const repaired = await place.start(t, place.args(directory));
  t.equal(await repaired.child.stop(), 0);
  t.ok(readFileSync(path).equals(good), 'the bad copy is written anew');

  const { child } = await place.start(t, place.args(directory));
  t.equal(await child.stop(), 0, 'the good one still starts');
});
