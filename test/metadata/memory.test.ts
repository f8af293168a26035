/** The in-memory store passes the contract, and can show every fault that etcd can have. */
import { test } from 'tap';
import { MemoryServer, MemoryStore } from '../../src/metadata/memory.js';
import { metadataStoreContract } from '../contract/metadata-store.js';
import { realClock } from './real-parts.js';

test('memory: the contract', async (t) => {
  const server = new MemoryServer(realClock);
  t.teardown(() => server.close());
  await metadataStoreContract(t, {
    open: async () => new MemoryStore(server, { clock: realClock }),
  });
});
