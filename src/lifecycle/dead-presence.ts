/** Ends the presence of a mount that is known to be dead: nobody waits for it then. */
import { ownerKey } from '../metadata/keys.js';
import { findPresence } from '../metadata/presence.js';
import type { MetadataStore } from '../metadata/store.js';
import type { Ownership } from './mount-files.js';

/** Leaves the presence of any other owner alone. */
export async function endPresence(store: MetadataStore, dead: Ownership): Promise<void> {
  const key = ownerKey(dead.volume);
  const { entry } = await store.get(key);
  if (entry === null || (await findPresence(store, dead.volume))?.owner !== dead.owner) return;
  // Unchanged since it was read, so it is the dead owner's.
  await store.transact([{ key, modRevision: entry.modRevision }], [{ type: 'delete', key }]);
}
