/** Who may take a volume over, and who is told to wait or to go away. */
import t from 'tap';
import { idFromBytes, type OwnerId, type VolumeId } from '../../src/core/ids.js';
import { epoch } from '../../src/core/units.js';
import { awaitTurn } from '../../src/lifecycle/claim.js';
import { writeOwnership } from '../../src/lifecycle/mount-files.js';
import { listMounts } from '../../src/lifecycle/mounts.js';
import { Attachments } from '../../src/metadata/attachments.js';
import { encodePresence } from '../../src/metadata/encoding.js';
import { nameKey, ownerKey } from '../../src/metadata/keys.js';
import { MemoryServer, MemoryStore } from '../../src/metadata/memory.js';
import { METADATA_SCHEMA, type VolumeRecord } from '../../src/metadata/model.js';
import { realClock } from '../metadata/real-parts.js';
import { FakeHost, specOf } from './fake-host.js';

const VOLUME = idFromBytes<VolumeId>(Buffer.alloc(16, 1));
const OTHER = idFromBytes<VolumeId>(Buffer.alloc(16, 2));
const OWNER = idFromBytes<OwnerId>(Buffer.alloc(16, 3));
const record = { volume: VOLUME, name: 'db', epoch: epoch(1) } as VolumeRecord;
const OURS = specOf('ours', { since: '2026-01-02T00:00:00.000Z' });

class Turn {
  readonly host = new FakeHost();
  readonly store = new MemoryStore(new MemoryServer(realClock), { clock: realClock });
  readonly progress: string[] = [];
  isStopped = false;

  async present(host: string, owner: OwnerId = OWNER): Promise<void> {
    const place = { host, pid: 42, mountPoint: '/mnt/db', since: '2026-01-01T00:00:00.000Z' };
    const held = { schema: METADATA_SCHEMA, volume: VOLUME, epoch: epoch(1), owner };
    const value = encodePresence({ ...held, ...place });
    await this.store.transact([], [{ type: 'put', key: ownerKey(VOLUME), value }]);
  }

  async absent(): Promise<void> {
    await this.store.transact([], [{ type: 'delete', key: ownerKey(VOLUME) }]);
  }

  async attach(machine: string): Promise<void> {
    const put = { type: 'put', key: nameKey('db'), value: VOLUME } as const;
    await this.store.transact([], [put]);
    const attachments = new Attachments(this.store, realClock);
    for (const one of await attachments.of(VOLUME)) await attachments.detach(VOLUME, one.machine);
    await attachments.attach(record, { machine, readOnly: false });
  }

  wait(waitMs = 0, found = record, machine: string | null = null): Promise<void> {
    const parts = { host: this.host, store: this.store, clock: realClock, hostname: 'here' };
    const onProgress = (text: string): void => void this.progress.push(text);
    const isStopped = (): boolean => this.isStopped;
    return awaitTurn({ ...parts, onProgress, isStopped }, found, { ...OURS, waitMs, machine });
  }
}

t.test('nobody has it', async () => {
  const turn = new Turn();
  turn.host.add(OURS, { phase: 'starting', volumeId: VOLUME });
  turn.host.add(specOf('another'), { volumeId: OTHER });
  await turn.wait();
});

t.test('attached to another machine meanwhile: that one has it', async (t) => {
  const turn = new Turn();
  await turn.wait(0, record, 'here');
  await turn.attach('here');
  await turn.wait(0, record, 'here');
  await turn.attach('there');
  const told = { code: 'CONFLICT', message: /"db" is attached to there since/ };
  await t.rejects(turn.wait(0, record, 'here'), told);
  await turn.wait();
});

t.test('stopped during the last look: nothing is to be taken over any more', async (t) => {
  const turn = new Turn();
  const { store } = turn;
  const get = store.get.bind(store);
  store.get = (...args) => {
    turn.isStopped = true;
    return get(...args);
  };
  await t.rejects(turn.wait(0, record, 'here'), { code: 'CLOSED' });
});

t.test('mounted here: says where and by whom', async (t) => {
  const turn = new Turn();
  turn.host.add(specOf('theirs'), { volumeId: VOLUME });
  const told = { code: 'CONFLICT', message: /"db" is mounted at \/mnt\/theirs by process 42/ };
  await t.rejects(turn.wait(), told);
  turn.host.daemons.set('theirs', { phase: 'failed', volumeId: VOLUME });
  await t.rejects(turn.wait(), { code: 'CONFLICT' }, 'its users have not gone yet');
});

t.test('used where it is no longer mounted: says how to end that', async (t) => {
  const turn = new Turn();
  turn.host.add(specOf('theirs'), { volumeId: VOLUME });
  const [entry] = turn.host.table;
  if (entry === undefined) throw new Error('it is mounted');
  turn.host.table[0] = { ...entry, mountPoint: '/mnt/bound' };
  await t.rejects(turn.wait(), { message: /is mounted at/, hint: /umount/ }, 'still elsewhere');
  turn.host.table[0] = { ...entry, device: '0:9999' };
  const told = { code: 'CONFLICT', message: /no longer mounted.*still used/, hint: /kill 42\./ };
  await t.rejects(turn.wait(), told, 'something else is mounted there');
});

t.test('of two that start at once the earlier goes on', async (t) => {
  const turn = new Turn();
  turn.host.add(specOf('earlier'), { phase: 'starting', volumeId: VOLUME });
  await t.rejects(turn.wait(), { code: 'CONFLICT', message: /being mounted/ });
  const later = specOf('later', { since: '2026-01-03T00:00:00.000Z' });
  const alone = new Turn();
  alone.host.add(later, { phase: 'starting', volumeId: VOLUME });
  await alone.wait();
});

t.test('one that started earlier and does not know its volume yet is waited for', async (t) => {
  const turn = new Turn();
  const earlier = { phase: 'starting' } as const;
  turn.host.add(specOf('earlier'), null);
  const waiting = turn.wait();
  realClock.after(300, () => turn.host.daemons.set('earlier', { ...earlier, volumeId: VOLUME }));
  await t.rejects(waiting, { code: 'CONFLICT' });
  turn.host.daemons.set('earlier', { ...earlier, volumeId: OTHER });
  await turn.wait();
  turn.host.daemons.set('earlier', { ...earlier, volumeId: null });
  realClock.after(300, () => turn.host.daemons.set('earlier', { ...earlier, volumeId: OTHER }));
  await turn.wait();
});

t.test('one that ends here is waited for', async (t) => {
  const turn = new Turn();
  turn.host.add(specOf('theirs'), { phase: 'stopping', volumeId: VOLUME });
  const waiting = turn.wait();
  realClock.after(300, () => turn.host.daemons.clear());
  realClock.after(300, () => turn.host.state.remove('theirs'));
  await waiting;
  t.match(turn.progress[0], /^waiting: "db" is mounted/);
});

t.test('mounted elsewhere: says where, and what to do if that is dead', async (t) => {
  const turn = new Turn();
  await turn.present('there');
  const told = {
    code: 'CONFLICT',
    message: /on there at \/mnt\/db/,
    hint: /within 10 s.*holdfast mount waits.*--wait 15/,
  };
  await t.rejects(turn.wait(), told);
  realClock.after(300, () => void turn.absent());
  await turn.wait(5_000);
});

t.test('a process of this machine of which only its presence is left', async (t) => {
  const turn = new Turn();
  await turn.present('here');
  realClock.after(300, () => void turn.absent());
  await turn.wait();
  t.ok(turn.progress.length > 0, 'is waited for unasked');
  await turn.present('here');
  turn.isStopped = true;
  await t.rejects(turn.wait(), { code: 'CLOSED' });
});

t.test('a dead mount of this machine stands in nobody’s way', async (t) => {
  const turn = new Turn();
  turn.host.add(specOf('dead'), null, false);
  writeOwnership(turn.host.state, 'dead', { owner: OWNER, volume: VOLUME, claims: [] });
  await turn.present('here');
  await turn.wait();
  const [found] = await listMounts({ host: turn.host, clock: realClock });
  t.match(found, { state: 'dead', owner: OWNER, keeperPid: null });
});

t.test('a daemon that hangs is not a dead one', async (t) => {
  const turn = new Turn();
  turn.host.add(specOf('hangs'), 'silent', false);
  writeOwnership(turn.host.state, 'hangs', { owner: OWNER, volume: VOLUME, claims: [] });
  const [found] = await listMounts({ host: turn.host, clock: realClock });
  t.match(found, { state: 'unresponsive' });
  await t.rejects(turn.wait(), { code: 'CONFLICT', message: /does not answer/ });
});

t.test("who was fenced since stands in nobody's way, whatever it believes", async (t) => {
  const turn = new Turn();
  const later = { ...record, epoch: epoch(3) };
  await turn.present('there');
  await turn.wait(0, later);
  await t.rejects(turn.wait(), { code: 'CONFLICT' }, 'a record read before says nothing');
  await turn.absent();
  turn.host.add(specOf('fenced'), 'silent');
  const claims = [1, 2].map((at) => ({ owner: OWNER, epoch: epoch(at) }));
  writeOwnership(turn.host.state, 'fenced', { owner: OWNER, volume: VOLUME, claims });
  await turn.wait(0, later);
  for (const at of [1, 2]) {
    await t.rejects(turn.wait(0, { ...record, epoch: epoch(at) }), { code: 'CONFLICT' }, `${at}`);
  }
  writeOwnership(turn.host.state, 'fenced', { owner: OWNER, volume: VOLUME, claims: [] });
  await t.rejects(turn.wait(0, later), { code: 'CONFLICT' }, 'it has not said what it claims');
});
