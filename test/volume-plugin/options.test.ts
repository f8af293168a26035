/** The options of `docker volume create -o`: what they become, and what is refused. */
import t from 'tap';
import { Engine } from './engine.js';

t.test('options become what a volume is', async (t) => {
  const engine = new Engine();
  const options = {
    ...{ size: '10GiB', replicas: '5', ack: '4', 'commit-interval': '2s', 'read-only': 'true' },
    ...{ type: 'block', 'fs-type': 'xfs', 'label.team': 'web', 'label.a.b': '' },
  };
  t.equal(await engine.create('db', options), '');
  t.same(engine.argumentsOf('create'), [
    {
      ...{ name: 'db', sizeBytes: 10 * 2 ** 30, replicas: 5, ackQuorum: 4, kind: 'block' },
      ...{ fsType: 'xfs', commitIntervalMs: 2000 },
      labels: { team: 'web', 'a.b': '', 'docker.read-only': 'true' },
    },
  ]);
  t.equal(await engine.create('db', options), '', 'the same again');
  await engine.create('plain');
  const defaults = { name: 'plain', sizeBytes: 2 ** 30, replicas: 3, labels: {} };
  t.same(engine.argumentsOf('create'), [defaults]);
  await engine.create('quick', { 'commit-interval': '1' });
  t.match(engine.argumentsOf('create'), [{ commitIntervalMs: 1000 }], 'seconds');
});

t.test('another volume of the same name', async (t) => {
  const engine = new Engine();
  await engine.create('db', { size: '2GiB', 'label.team': 'web' });
  const cases: [Record<string, string>, string][] = [
    [{ size: '3GiB' }, 'size 2 GiB'],
    [{ replicas: '5' }, 'replicas 3'],
    [{ ack: '3' }, 'ack 2'],
    [{ type: 'block' }, 'type filesystem'],
    [{ type: 'block', 'fs-type': 'ext4' }, 'type filesystem, fs-type not set'],
    [{ 'commit-interval': '9s' }, 'commit-interval not set'],
    [{ 'read-only': 'true' }, 'read-only false'],
    [{ 'label.team': 'db' }, 'label team web'],
    [{ 'label.zone': 'b' }, 'label zone not set'],
  ];
  for (const [options, has] of cases) {
    const err = await engine.create('db', options);
    t.equal(err, `a volume "db" exists with ${has}. Ask for the same, or for another name.`);
  }
  t.equal(await engine.create('db', { size: '2048MiB', ack: '2', 'read-only': 'false' }), '');
  t.equal(engine.volumes.infos.size, 1);
});

t.test('what is no option', async (t) => {
  const engine = new Engine();
  const known = 'size, replicas, ack, type, fs-type, read-only, commit-interval, label.KEY';
  const cases: [Record<string, string>, string | RegExp][] = [
    [{ sise: '1GiB' }, `"sise" is no option of a volume. Options are ${known}.`],
    [{ toString: '' }, /"toString" is no option/],
    [{ 'label.__proto__': 'x' }, /"label\.__proto__" names no label/],
    [{ size: 'big' }, /^size "big" is not a size\./],
    [{ size: '10GB' }, /unit "GB" is not known/],
    [{ replicas: 'three' }, 'replicas: "three" is not a whole number.'],
    [{ ack: '-1' }, 'ack: "-1" is not a whole number.'],
    [{ type: 'object' }, 'type: "object" is not filesystem or block.'],
    [{ 'fs-type': 'xfs' }, /^fs-type is for block volumes only\. Add type=block/],
    [{ type: 'block', 'fs-type': 'zfs' }, 'fs-type: "zfs" is not ext4 or xfs.'],
    [{ 'read-only': 'yes' }, 'read-only: "yes" is not true or false.'],
    [{ 'commit-interval': 'soon' }, /^commit-interval "soon" is not a time/],
    [{ 'label.': 'x' }, /names no label/],
    [{ 'label.docker.read-only': 'true' }, /the plugin's own/],
  ];
  for (const [options, err] of cases) {
    const said = await engine.create('db', options);
    if (typeof err === 'string') t.equal(said, err);
    else t.match(said, err);
  }
  t.equal(engine.volumes.infos.size, 0, 'nothing was made');
});
