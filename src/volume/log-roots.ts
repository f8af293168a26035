/**
 * The volume layer's RootStore over the log's owner: pages become byte offsets, the record's sealed
 * segments become what the cleaner may look at.
 *
 * INVARIANT: the last segment sealed is never offered for deletion: its descriptor says where the
 * log ends.
 */
import { offset, PAGE_BYTES } from '../core/units.js';
import type { LogOwner } from '../replication/owner.js';
import type { RootStore } from './root-store.js';

/** What of LogOwner this needs. */
export type RootOwner = Pick<LogOwner, 'record' | 'setRoot' | 'deleteSealed'>;

/** For an owner in the state `serving`. A swap fails only when the owner ends: FENCED or CLOSED. */
export function logRoots(owner: RootOwner): RootStore {
  return {
    get root() {
      const root = owner.record?.root ?? null;
      if (root === null) return null;
      const { segment, lsn } = root;
      return { segment, page: root.offset / PAGE_BYTES, lsn };
    },
    setRoot: ({ segment, page, lsn }, done) =>
      owner.setRoot({ segment, offset: offset(page * PAGE_BYTES), lsn }, done),
    sealed: () =>
      (owner.record?.sealed ?? []).slice(0, -1).map(({ segment, end, endLsn }) => {
        return { segment, pages: end / PAGE_BYTES, endLsn };
      }),
    deleteSegments: (segments, done) => owner.deleteSealed(segments, done),
  };
}
