/** Whether a successor may take what a dead daemon left: by who owned the volume in between. */
import t from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { idFromBytes, type OwnerId, type VolumeId } from '../../src/core/ids.js';
import { type Adoption, checkHeir, judge, readAdoption } from '../../src/lifecycle/adoption.js';
import { StateFile } from '../../src/lifecycle/keeper.js';
import { writeInit, writeOwnership } from '../../src/lifecycle/mount-files.js';
import type { VolumeRecord } from '../../src/metadata/model.js';
import type { Volumes } from '../../src/metadata/volumes.js';
import type { IntentIdentity } from '../../src/volume/intent-format.js';
import { IntentLog } from '../../src/volume/intent-log.js';
import { MemoryIntents } from '../volume/memory-intents.js';
import { FakeState, specOf } from './fake-host.js';

const VOLUME = idFromBytes<VolumeId>(Buffer.alloc(16, 1));
const [first, second, other] = [3, 4, 5].map((byte) => {
  return idFromBytes<OwnerId>(Buffer.alloc(16, byte));
}) as [OwnerId, OwnerId, OwnerId];
const AGREED = {
  ...{ major: 7, minor: 45, maxReadahead: 0, flags: 0, flags2: 0x80, maxBackground: 1 },
  ...{ congestionThreshold: 1, maxWrite: 1, maxPages: 1 },
};

class Left {
  readonly state = new FakeState();
  readonly intents = new MemoryIntents();

  constructor(readOnly = false) {
    this.state.create('m', {});
    this.state.write('m', StateFile.SPEC, JSON.stringify(specOf('m', { readOnly })));
    writeInit(this.state, 'm', AGREED);
    this.claim([first, 7]);
  }

  claim(...claims: readonly [OwnerId, number][]): void {
    const all = claims.map(([owner, epoch]) => ({ owner, epoch }));
    writeOwnership(this.state, 'm', { owner: first, volume: VOLUME, claims: all });
  }

  log(more: Partial<IntentIdentity> = {}): void {
    const identity = { volume: VOLUME, owner: first, epoch: 7, mount: 'm', ...more };
    new IntentLog({ file: this.intents.create(), identity }).establish();
  }

  read(): Adoption | null {
    const files = { read: () => this.intents.file, create: () => this.intents.create() };
    return readAdoption(this.state, 'm', files);
  }
}

function recordOf(owner: OwnerId, epoch: number): VolumeRecord {
  return { name: 'db', epoch, owner: { id: owner, address: 'h', released: false } } as VolumeRecord;
}

t.test(
  'the dead daemon, or a successor that came no further, may be found; no other',
  async (t) => {
    const left = new Left();
    left.log();
    left.claim([first, 7], [second, 8]);
    const adoption = left.read() as Adoption;
    t.equal(checkHeir(adoption, recordOf(first, 7)), first);
    t.equal(checkHeir(adoption, recordOf(second, 8)), second);
    t.throws(() => checkHeir(adoption, recordOf(other, 8)), { code: 'FENCED' });
    t.throws(() => checkHeir(adoption, recordOf(second, 9)), { code: 'FENCED' }, 'one was between');
  },
);

t.test('a claim that a dead successor had sent may land late', async (t) => {
  const left = new Left();
  left.log();
  left.claim([first, 7], [second, 8]);
  const adoption = left.read() as Adoption;
  const fault = new HoldfastError('FENCED', 'epoch 8 of another owner was found at our 8');
  const judged = async (owner: OwnerId, thrown: unknown = fault): Promise<unknown> => {
    const get = async (): Promise<unknown> => ({ record: recordOf(owner, 8) });
    return await judge({ get } as unknown as Volumes, adoption, thrown);
  };
  t.match(await judged(second), { code: 'FENCED', message: fault.message, retryable: true });
  t.equal(await judged(other), fault, 'another owner has the volume');
  const lost = new HoldfastError('DATA_LOST', 'no good copy is left');
  t.equal(await judged(second, lost), lost);
  const down = new HoldfastError('UNAVAILABLE', 'etcd does not answer');
  const get = (): Promise<unknown> => Promise.reject(down);
  await t.rejects(judge({ get } as unknown as Volumes, adoption, fault), down, 'to be asked again');
});

t.test('only the intents of this mount are taken', async (t) => {
  const left = new Left();
  left.log();
  t.equal(left.read()?.intents?.identity.epoch, 7);
  for (const more of [{ mount: 'x' }, { epoch: 6 }, { owner: other }, { volume: OTHER_VOLUME }]) {
    left.log(more);
    t.throws(() => left.read(), { code: 'INCONSISTENT' });
  }
});

const OTHER_VOLUME = idFromBytes<VolumeId>(Buffer.alloc(16, 9));

t.test('without intents there is none to adopt, but where nothing can have changed', async (t) => {
  t.throws(() => new Left().read(), { code: 'INCONSISTENT' });
  t.equal(new Left(true).read()?.intents, null, 'read-only');
  const left = new Left();
  left.state.write('m', StateFile.COMMITTED, `${first}\n`);
  t.equal(left.read()?.intents, null, 'handed over');
  left.claim([second, 8]);
  t.throws(() => left.read(), { code: 'INCONSISTENT' }, 'that was another daemon');
});

t.test('a mount that was never served is not adopted', async (t) => {
  const left = new Left();
  left.state.create('m', {});
  t.equal(left.read(), null);
});
