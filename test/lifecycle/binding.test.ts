/** Binding volumes to targets, with a table of mounts that changes as mount(8) would change it. */
import { test } from 'tap';
import type { FuseMounts, MountEntry } from '../../src/io/fuse-device.js';
import type { MachineCommands } from '../../src/io/machine-commands.js';
import { bindMount } from '../../src/lifecycle/binding.js';

const SOURCE = '/staging';
const TARGET = '/pods/1';

function entry(mountPoint: string, device: string, readOnly = false): MountEntry {
  const type = device === '0:50' ? 'fuse.holdfast' : 'ext4';
  return { mountPoint, type, source: 'db', device, root: '/', readOnly } as MountEntry;
}

/** `binds` is what mount(8) leaves at the target, and its exit status. */
function machine(binds: { readonly entry: MountEntry | null; readonly status: number }) {
  const table: MountEntry[] = [entry(SOURCE, '0:50')];
  const done: string[] = [];
  const commands = {
    makeDirectory: () => true,
    removeEmpty: (path: string) => void done.push(`remove ${path}`),
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
  return { deps: { commands, mounts, umount }, done };
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
