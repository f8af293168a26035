/** Volumes on real log owners in the owner's test world: mounted, used, checked, taken over. */
import { present } from '../../src/core/assert.js';
import type { HoldfastError } from '../../src/core/errors.js';
import { PAGE_BYTES } from '../../src/core/units.js';
import type { VolumeFilesystem } from '../../src/volume/filesystem.js';
import type { FsError, Inode } from '../../src/volume/filesystem-api.js';
import { logRoots } from '../../src/volume/log-roots.js';
import { type MountOptions, mountVolume } from '../../src/volume/mount.js';
import { digest } from '../../src/volume/state.js';
import { compareWithLog } from '../fixtures/compare-with-log.js';
import { found } from '../fixtures/found.js';
import { OwnerWorld, type TestOwner } from '../replication/owner-world.js';
import { CALLER, ROOT } from './harness.js';

export type Fault = FsError | HoldfastError | null;

export const SEGMENT_PAGES = 32;

/** One owner with the volume mounted on it. */
export class OwnedVolume {
  readonly world: OwnerWorld;
  readonly one: TestOwner;
  readonly fs: VolumeFilesystem;

  constructor(world: OwnerWorld, one: TestOwner, fs: VolumeFilesystem) {
    this.world = world;
    this.one = one;
    this.fs = fs;
  }

  /** Waits until the call has called back; returns its error. */
  async wait(call: (done: (error: Fault) => void) => void): Promise<Fault> {
    let result: Fault | undefined;
    call((error) => {
      result = error;
    });
    await this.world.until(() => result !== undefined, 600_000);
    return result as Fault;
  }

  /** As `wait`, and throws what it ends with. */
  async must(call: (done: (error: Fault) => void) => void): Promise<void> {
    const error = await this.wait(call);
    if (error !== null) throw error;
  }

  file(name: string): Inode {
    return this.fs.mknod(ROOT, Buffer.from(name), 0o100644, 0, CALLER).inode;
  }

  inode(name: string): Inode {
    return found(this.fs, ROOT, Buffer.from(name)).inode;
  }

  write(inode: Inode, offset: number, data: Buffer): Promise<void> {
    return this.must((done) => this.fs.write(inode, offset, data, done));
  }

  async content(inode: Inode): Promise<Buffer> {
    const { size } = this.fs.getattr(inode);
    const parts: Uint8Array[] = [];
    await this.must((done) =>
      this.fs.read(inode, 0, size, (error, found) => {
        parts.push(...found);
        done(error);
      }),
    );
    return Buffer.concat(parts);
  }

  commit(): Promise<void> {
    return this.must((done) => this.fs.commit(done));
  }

  async checkpoint(): Promise<void> {
    await this.commit();
    await this.must((done) => this.fs.checkpoints.begin(done));
  }

  /** The fingerprint of the live state, with everything in the log. */
  async digest(): Promise<string> {
    await this.commit();
    return digest(this.fs.state);
  }

  /** Fills pages with this value in many small groups, so that many segments are rolled. */
  async fill(inode: Inode, pages: number, value: number): Promise<void> {
    for (let page = 0; page < pages; page += 8) {
      const count = Math.min(8, pages - page);
      await this.write(inode, page * PAGE_BYTES, Buffer.alloc(count * PAGE_BYTES, value));
      await this.commit();
    }
  }
}

export function volumeWorld(nodes = 3): OwnerWorld {
  return new OwnerWorld({ nodes, limits: { segmentSoftBytes: SEGMENT_PAGES * PAGE_BYTES } });
}

function mountOf({ owner, process }: TestOwner): MountOptions {
  const { sizeBytes } = present(owner.record, 'the record of an owner that serves');
  return { owner, roots: logRoots(owner), clock: process.clock, sizeBytes };
}

/** A new owner takes the volume over and mounts it. */
export async function mountOwned(
  world: OwnerWorld,
  options: Partial<MountOptions> = {},
): Promise<OwnedVolume> {
  const one = await world.serving();
  let found: VolumeFilesystem | null = null;
  let fault: HoldfastError | null = null;
  mountVolume({ ...mountOf(one), ...options }, (error, filesystem) => {
    fault = error;
    found = filesystem;
  });
  await world.until(() => found !== null || fault !== null, 600_000);
  if (found === null) throw fault;
  return new OwnedVolume(world, one, found);
}

/** Whether the durable root and the log behind it give the live state, as nodes hold them now. */
export async function isReproduced(volume: OwnedVolume): Promise<boolean> {
  const { fs, one, world } = volume;
  const { owner, roots, sizeBytes } = mountOf(one);
  let found = false;
  await volume.must((done) =>
    compareWithLog({ scheduler: world.scheduler, owner, roots, sizeBytes, fs }, (error, same) => {
      found = same;
      done(error);
    }),
  );
  return found;
}
