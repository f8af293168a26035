/** The etcd store passes the contract against a real etcd. */
import { test } from 'tap';
import { openMetadata } from '../../src/metadata/open.js';
import { metadataStoreContract } from '../contract/metadata-store.js';
import { presenceContract } from '../contract/presence.js';
import { startEtcd } from '../fixtures/etcd.js';
import { realClock, realRandom } from './real-parts.js';

test('etcd: the contract', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.close());
  const open = () => openMetadata(etcd.url, { clock: realClock, random: realRandom, env: {} });
  await metadataStoreContract(t, { open });
  await t.test('presence', (sub) => presenceContract(sub, { open }));
});
