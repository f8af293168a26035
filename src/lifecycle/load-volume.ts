/**
 * Loading a volume that is taken over, for people who wait: says how far it is, and gives up when
 * nothing has come from the log for too long, however long it takes as long as something comes.
 */
import { present } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import { MIB } from '../core/units.js';
import type { VolumeFilesystem } from '../volume/filesystem.js';
import { type MountOptions, mountVolume } from '../volume/mount.js';

const LOAD_TIMEOUT_MS = 300_000;
const WATCH_MS = 2_000;
/** How often there is news. */
const STEP_BYTES = 16 * MIB;

export interface LoadOptions extends Omit<MountOptions, 'onLoaded' | 'onReplayed'> {
  /** Its name, for messages. */
  readonly volume: string;
  /** What is being done, whenever there is news of it. */
  readonly onProgress: (text: string) => void;
}

/** Rejects with what mountVolume fails with, or TIMEOUT (retryable), saying how far it came. */
export function loadVolume(options: LoadOptions): Promise<VolumeFilesystem> {
  const { clock, volume } = options;
  let heardAt = clock.monotonic();
  let doing = '';
  const heard = (text: string): void => {
    heardAt = clock.monotonic();
    if (text === doing) return;
    doing = text;
    options.onProgress(text);
  };
  heard('loading the newest checkpoint');
  const onLoaded = (bytes: number, ofBytes: number): void => {
    heard(`loading the newest checkpoint: ${steps(bytes)} of ${Math.ceil(ofBytes / MIB)} MiB`);
  };
  let replayed = 0;
  const onReplayed = (bytes: number): void => {
    replayed += bytes;
    heard(`replaying the log: ${steps(replayed)} MiB`);
  };
  const { adopted } = options;
  const onFull = (fault: HoldfastError): void => {
    heardAt = clock.monotonic();
    adopted?.onFull?.(fault);
  };
  const waiting = adopted === undefined ? {} : { adopted: { ...adopted, onFull } };
  return new Promise((resolve, reject) => {
    const watch = (): void => {
      if (clock.monotonic() - heardAt < LOAD_TIMEOUT_MS) timer = clock.after(WATCH_MS, watch);
      else reject(stuck(volume, doing));
    };
    let timer = clock.after(WATCH_MS, watch);
    mountVolume({ ...options, ...waiting, onLoaded, onReplayed }, (error, filesystem) => {
      timer.cancel();
      if (error !== null) reject(error);
      else resolve(present(filesystem, 'a filesystem'));
    });
  });
}

/** MiB, in whole steps. */
function steps(bytes: number): number {
  return (Math.floor(bytes / STEP_BYTES) * STEP_BYTES) / MIB;
}

function stuck(volume: string, doing: string): HoldfastError {
  const message = `"${volume}" is taken over, but cannot be loaded: ${doing}`;
  const hint = 'Check with "holdfast status" that enough of its nodes are up.';
  return new HoldfastError('TIMEOUT', message, { retryable: true, hint });
}
