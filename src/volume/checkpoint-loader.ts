/**
 * Reads a checkpoint back into a state. Without a root the state is empty and replay begins at the
 * beginning.
 */
import type { HoldfastError } from '../core/errors.js';
import { type Lsn, lsn } from '../core/units.js';
import type { VolumeOwner } from '../replication/owner-api.js';
import type { CheckpointRoot } from './root-store.js';
import { VolumeState } from './state.js';

export interface LoadedCheckpoint {
  readonly state: VolumeState;
  readonly replayFrom: Lsn;
}

export function loadCheckpoint(
  _owner: VolumeOwner,
  root: CheckpointRoot | null,
  done: (error: HoldfastError | null, loaded: LoadedCheckpoint | null) => void,
): void {
  if (root === null) done(null, { state: new VolumeState(), replayFrom: lsn(0) });
}
