/** The embedded store passes the contract within one process and between two. */
import { test } from 'tap';
import { EmbeddedStore } from '../../src/metadata/embedded.js';
import { metadataStoreContract } from '../contract/metadata-store.js';
import { realClock, realRandom, temporaryDirectory } from './real-parts.js';

test('embedded: the contract', async (t) => {
  const directory = temporaryDirectory(t);
  await metadataStoreContract(t, {
    open: async () => new EmbeddedStore({ directory, clock: realClock, random: realRandom }),
  });
});
