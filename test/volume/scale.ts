/**
 * A volume of a million files, a huge sparse file and one large directory, on a log in files:
 * memory, times and pauses of the event loop, printed as JSON lines.
 * `node dist/test/volume/scale.js [create|mount] DIRECTORY [FILES]`; `create` runs `mount` in a
 * process of its own at the end.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { present } from '../../src/core/assert.js';
import { MIB } from '../../src/core/units.js';
import { nodeClock } from '../../src/io/node/clock.js';
import type { VolumeFilesystem } from '../../src/volume/filesystem.js';
import type { Inode } from '../../src/volume/filesystem-api.js';
import { mountVolume } from '../../src/volume/mount.js';
import { DiskLog } from '../fixtures/disk-log.js';
import { found } from '../fixtures/found.js';
import { CALLER, ROOT } from './harness.js';

const PER_DIRECTORY = 1_000;
/** Requests that a busy FUSE session answers in one turn. */
const A_TURN = 32;
const GIB = 1024 * MIB;

/** Longest time that one turn of the event loop took. */
class Pauses {
  longest = 0;
  #last = performance.now();
  #running = true;

  constructor() {
    const tick = (): void => {
      const now = performance.now();
      this.longest = Math.max(this.longest, now - this.#last);
      this.#last = now;
      if (this.#running) setImmediate(tick);
    };
    setImmediate(tick);
  }

  end(): number {
    this.#running = false;
    this.longest = Math.max(this.longest, performance.now() - this.#last);
    return Math.round(this.longest * 10) / 10;
  }
}

function rss(): number {
  return Math.round(process.memoryUsage().rss / MIB);
}

async function phase(what: string, count: number, work: () => Promise<void>): Promise<void> {
  const pauses = new Pauses();
  const started = performance.now();
  await work();
  const ms = performance.now() - started;
  const line = {
    what,
    ms: Math.round(ms),
    perSecond: Math.round((count / ms) * 1000),
    longestPauseMs: pauses.end(),
    rssMiB: rss(),
  };
  console.log(JSON.stringify(line));
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function each(count: number, run: (index: number) => void): Promise<void> {
  for (let i = 0; i < count; i++) {
    run(i);
    if (i % A_TURN === A_TURN - 1) await turn();
  }
}

function called(call: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(error)));
  });
}

async function mount(log: DiskLog): Promise<VolumeFilesystem> {
  let made: VolumeFilesystem | null = null;
  await called((done) => {
    const options = { owner: log, roots: log, clock: nodeClock, sizeBytes: 1024 * GIB };
    mountVolume(options, (error, filesystem) => {
      made = filesystem;
      done(error);
    });
  });
  return present(made as VolumeFilesystem | null, 'a filesystem');
}

const name = (index: number): Buffer => Buffer.from(`file-number-${index}.dat`);

async function create(directory: string, files: number): Promise<void> {
  const log = new DiskLog(directory, { forgetsData: true });
  const fs = await mount(log);
  const commit = (): Promise<void> => called((done) => fs.commit(done));
  const inodes: Inode[] = [];
  let parent = ROOT;
  await phase('create', files, async () => {
    await each(files, (i) => {
      if (i % PER_DIRECTORY === 0) {
        parent = fs.mkdir(ROOT, Buffer.from(`directory-${i / PER_DIRECTORY}`), 0o755, CALLER).inode;
      }
      inodes.push(fs.mknod(parent, name(i), 0o100644, 0, CALLER).inode);
    });
    await commit();
  });
  const page = Buffer.alloc(4096, 7);
  await phase('write 4 KiB each', files, async () => {
    for (let i = 0; i < files; i++) {
      const wrote = called((done) => fs.write(inodes[i] as Inode, 0, page, done));
      if (i % A_TURN === 0) await wrote;
    }
    await commit();
  });
  await phase('lookup', files, () => each(files, (i) => fs.getattr(inodes[i] as Inode)));
  await phase('checkpoint', 1, () => called((done) => fs.checkpoints.begin(done)));
  await phase('chmod all', files, async () => {
    await each(files, (i) => fs.setattr(inodes[i] as Inode, { mode: 0o600 }));
    await commit();
  });
  await large(fs);
  await called((done) => fs.finish(done));
  fs.stop();
  log.stop();
}

/** One huge file written here and there, one large directory. */
async function large(fs: VolumeFilesystem): Promise<void> {
  const commit = (): Promise<void> => called((done) => fs.commit(done));
  const { inode } = fs.mknod(ROOT, Buffer.from('sparse'), 0o100644, 0, CALLER);
  const page = Buffer.alloc(4096, 7);
  const size = 100 * GIB;
  await phase('100 GiB sparse, 100,000 pages', 100_000, async () => {
    fs.setattr(inode, { size });
    for (let i = 0; i < 100_000; i++) {
      const at = ((i * 7919) % 100_000) * MIB + 8192;
      const wrote = called((done) => fs.write(inode, at, page, done));
      if (i % A_TURN === 0) await wrote;
    }
    await commit();
  });
  await phase('seek hole', 1, async () => void fs.seek(inode, 4096, 'hole'));
  await phase('seek data', 1, async () => void fs.seek(inode, 4096, 'data'));
  await phase('reserve 100 GiB', 1, async () => fs.fallocate(inode, 0, size, 1));
  await phase('checkpoint with it', 1, () => called((done) => fs.checkpoints.begin(done)));
  await phase('truncate 100 GiB', 1, async () => void fs.setattr(inode, { size: 0 }));
  await phase('200,000 entries', 200_000, async () => {
    const parent = fs.mkdir(ROOT, Buffer.from('large'), 0o755, CALLER).inode;
    await each(200_000, (i) => fs.mknod(parent, name(i), 0o100644, 0, CALLER));
    await commit();
  });
}

async function remount(directory: string, files: number): Promise<void> {
  console.log(JSON.stringify({ what: 'bare process', rssMiB: rss() }));
  const log = new DiskLog(directory, { forgetsData: true });
  let fs: VolumeFilesystem | null = null;
  await phase('mount', 1, async () => {
    fs = await mount(log);
  });
  const mounted = present(fs as VolumeFilesystem | null, 'a filesystem');
  const state = Math.round(mounted.state.memoryBytes / MIB);
  console.log(JSON.stringify({ what: 'state', MiB: state, files: mounted.state.inodes.count }));
  await phase('list', files, async () => {
    let counted = 0;
    for (let i = 0; i < files / PER_DIRECTORY; i++) {
      const { inode } = found(mounted, ROOT, Buffer.from(`directory-${i}`));
      mounted.readdir(inode, 0, () => {
        counted += 1;
        return true;
      });
      await turn();
    }
    if (counted !== files) throw new Error(`${counted} files of ${files}`);
  });
  await phase('lookup', files, async () => {
    let parent = ROOT;
    await each(files, (i) => {
      if (i % PER_DIRECTORY === 0) {
        parent = found(mounted, ROOT, Buffer.from(`directory-${i / PER_DIRECTORY}`)).inode;
      }
      found(mounted, parent, name(i));
    });
  });
  mounted.stop();
}

const [, script, mode = 'create', directory = '', count = '1000000'] = process.argv;
if (mode === 'mount') {
  await remount(directory, Number(count));
} else {
  await create(directory, Number(count));
  const self = fileURLToPath(new URL(`file://${script}`));
  const options = { stdio: 'inherit' } as const;
  execFileSync(process.execPath, [self, 'mount', directory, count], options);
}
