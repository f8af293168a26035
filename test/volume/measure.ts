/**
 * Micro measurements of the volume's state, printed: `node dist/test/volume/measure.js`. Not a
 * test; the benchmark of whole volumes is bench/.
 */
import { MIB } from '../../src/core/units.js';
import { Bed, CALLER } from './harness.js';

const FILES = Number(process.env.HOLDFAST_FILES ?? 1_000_000);
const PER_DIRECTORY = 1_000;

function memory(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage().rss;
}

function rate(what: string, count: number, work: () => void): void {
  const started = performance.now();
  work();
  const seconds = (performance.now() - started) / 1000;
  console.log(`${what}: ${Math.round(count / seconds).toLocaleString('en')} a second`);
}

function files(): void {
  const bed = new Bed({ sizeBytes: 2 ** 45, ackDelayMs: null });
  const { fs } = bed;
  const drain = (): void => {
    fs.commit(() => {});
    bed.owner.acknowledge();
    bed.log.records.length = 0;
    bed.owner.dropHistory();
  };
  const page = Buffer.alloc(4096, 7);
  const before = memory();
  const inodes: number[] = [];
  const directories: number[] = [];
  rate('create', FILES, () => {
    let parent = 1;
    for (let i = 0; i < FILES; i++) {
      if (i % PER_DIRECTORY === 0) {
        parent = fs.mkdir(1, Buffer.from(`directory-${i}`), 0o755, CALLER).inode;
        directories.push(parent);
        drain();
      }
      const { inode } = fs.mknod(parent, Buffer.from(`file-number-${i}.dat`), 0o100644, 0, CALLER);
      inodes.push(inode);
    }
  });
  drain();
  const created = memory();
  console.log(`${FILES} empty files: ${((created - before) / FILES).toFixed(0)} B a file (rss)`);
  rate('write 4 KiB each', FILES, () => {
    for (let i = 0; i < FILES; i++) {
      fs.write(inodes[i] as number, 0, page, () => {});
      if (i % 256 === 0) {
        drain();
        bed.scheduler.runFor(1);
        bed.log.segments.length = 0;
      }
    }
  });
  drain();
  bed.scheduler.runFor(1);
  bed.log.segments.length = 0;
  const written = memory();
  const total = (written - before) / MIB;
  console.log(`with one page each: ${((written - before) / FILES).toFixed(0)} B a file (rss)`);
  const own = fs.state.memoryBytes / MIB;
  console.log(`in all ${total.toFixed(0)} MiB rss, of which state ${own.toFixed(0)} MiB`);
  rate('lookup', FILES, () => {
    for (let i = 0; i < FILES; i++) {
      const parent = directories[Math.floor(i / PER_DIRECTORY)] as number;
      fs.lookup(parent, Buffer.from(`file-number-${i}.dat`));
    }
  });
  rate('readdir entries', FILES, () => {
    for (const directory of directories) fs.readdir(directory, 0, () => true);
  });
}

function extents(): void {
  const bed = new Bed({ sizeBytes: 2 ** 45 });
  const { extents: map, segments } = bed.fs.state;
  const own = (): number => bed.fs.state.memoryBytes;
  segments.slotOf('0000000000000000000000000000ffff' as never);
  const pages = 4 * 1024 * 1024;
  const order = new Uint32Array(pages);
  for (let i = 0; i < pages; i++) order[i] = i;
  let random = 12345;
  for (let i = pages - 1; i > 0; i--) {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    const j = random % (i + 1);
    const kept = order[i] as number;
    order[i] = order[j] as number;
    order[j] = kept;
  }
  const before = own();
  rate('random page mapped', pages, () => {
    for (let i = 0; i < pages; i++) map.set(5, order[i] as number, 1, (1 << 22) + (i % 4_000_000));
  });
  console.log(`16 GiB at random: ${((own() - before) / pages).toFixed(2)} B a page`);
  rate('random page remapped', pages, () => {
    for (let i = 0; i < pages; i++) map.set(5, order[i] as number, 1, (1 << 22) + (i % 4_000_000));
  });
  rate('random page looked up', pages, () => {
    for (let i = 0; i < pages; i++) map.place(5, order[i] as number);
  });
  rate('sequential page mapped', pages, () => {
    for (let i = 0; i < pages; i += 256) map.set(6, i, 256, (1 << 22) + (i % 4_000_000));
  });
}

files();
extents();
