/** Binding volumes to targets, with a table of mounts that changes as mount(8) would change it. */
import { createHash } from 'node:crypto';
import { test } from 'tap';
import type { FuseMounts, MountEntry } from '../../src/io/fuse-device.js';
import type { MachineCommands } from '../../src/io/machine-commands.js';
import { bindMount, unbindMount } from '../../src/lifecycle/binding.js';

const SOURCE = '/staging';
const TARGET = '/pods/1';
const MARKS = '/marks';
const MARK = `${MARKS}/${createHash('sha256').update(TARGET).digest('hex')}`;

function entry(mountPoint: string, device: string, readOnly = false): MountEntry {
  const type = device === '0:50' ? 'fuse.holdfast' : 'ext4';
  return { mountPoint, type, source: 'db', device, root: '/', readOnly } as MountEntry;
}

/** `binds` is what mount(8) leaves at the target, and its exit status. */
function machine(binds: {
  readonly entry: MountEntry | null;
  readonly status: number;
  /** What a call that was cut off has left: the target, and the mark of a read-only bind. */
  readonly before?: { readonly entry: MountEntry; readonly isMarked: boolean };
}) {
  const marks = new Set<string>(binds.before?.isMarked === true ? [MARK] : []);
  const table: MountEntry[] = [entry(SOURCE, '0:50')];
  if (binds.before !== undefined) table.push(binds.before.entry);
  const done: string[] = [];
  const isMark = (path: string): boolean => path.startsWith(`${MARKS}/`);
  const commands = {
    makeDirectory: () => true,
    makeFile: (path: string) => marks.add(path).size > 0,
    kind: (path: string) => (marks.has(path) ? 'file' : 'missing'),
    removeEmpty: (path: string) => {
      if (isMark(path)) marks.delete(path);
      else done.push(`remove ${path}`);
    },
    run: async () => {
      if (binds.entry !== null) table.push(binds.entry);
      return { status: binds.status, stdout: '', stderr: 'it failed' };
    },
  } as unknown as MachineCommands;
  const umount = async (path: string): Promise<void> => {
    done.push(`umount ${path}`);
    table.splice(
      table.findLastIndex(({ mountPoint }) => mountPoint === path),
      1,
    );
  };
  const resolve = (path: string): string => path;
  const mounts = { table: () => table, resolve } as unknown as FuseMounts;
  return { deps: { commands, mounts, umount, marks: MARKS }, done, marks, table };
}

const request = { source: SOURCE, target: TARGET };

test('what is bound is what was meant', async (t) => {
  const { deps, done } = machine({ entry: entry(TARGET, '0:50'), status: 0 });
  await bindMount(deps, request, []);
  t.same(done, []);
});

test('the directory below a mount that went meanwhile is not left bound', async (t) => {
  const { deps, done } = machine({ entry: entry(TARGET, '254:0'), status: 0 });
  const message = '/staging cannot be bound to /pods/1: it is not there any more';
  await t.rejects(bindMount(deps, request, []), { code: 'UNAVAILABLE', message });
  t.same(done, [`umount ${TARGET}`, `remove ${TARGET}`]);
});

test('a mount that was made and not made read-only is taken away again', async (t) => {
  const { deps, done } = machine({ entry: entry(TARGET, '0:50'), status: 32 });
  await t.rejects(bindMount(deps, { ...request, readOnly: true }, []), { code: 'UNAVAILABLE' });
  t.same(done, [`umount ${TARGET}`, `remove ${TARGET}`]);
});

test('a target at which nothing came about is removed', async (t) => {
  const { deps, done } = machine({ entry: null, status: 32 });
  await t.rejects(bindMount(deps, request, []), { code: 'UNAVAILABLE', message: /it failed/ });
  t.same(done, [`remove ${TARGET}`]);
});

test('a read-only bind that was cut off while it was writable is made anew', async (t) => {
  const before = { entry: entry(TARGET, '0:50'), isMarked: true };
  const { deps, done, marks, table } = machine({
    ...{ entry: entry(TARGET, '0:50', true), status: 0, before },
  });
  await bindMount(deps, { ...request, readOnly: true }, []);
  t.same(done, [`umount ${TARGET}`]);
  t.same([marks.size, table.at(-1)?.readOnly], [0, true]);
});

test('what was bound for writing on purpose stays so', async (t) => {
  const before = { entry: entry(TARGET, '0:50'), isMarked: false };
  const { deps, done } = machine({ entry: null, status: 0, before });
  const bound = bindMount(deps, { ...request, readOnly: true }, []);
  await t.rejects(bound, {
    code: 'ALREADY_EXISTS',
    message: '/pods/1 has db (fuse.holdfast) already',
  });
  t.same(done, []);
});

test('the mark goes with the target', async (t) => {
  const before = { entry: entry(TARGET, '0:50'), isMarked: true };
  const { deps, marks } = machine({ entry: null, status: 0, before });
  await unbindMount(deps, TARGET, []);
  t.equal(marks.size, 0);
});
