/** The end of a block volume's device has a limit, whatever hangs. */
import { test } from 'tap';
import { idFromBytes, type VolumeId } from '../../src/core/ids.js';
import type { FuseMounts } from '../../src/io/fuse-device.js';
import { silentLog } from '../../src/io/log.js';
import type { CommandOutput, MachineCommands } from '../../src/io/machine-commands.js';
import { endDevices } from '../../src/lifecycle/end-devices.js';
import { after, ticking } from './ticking.js';

const VOLUME = idFromBytes<VolumeId>(Buffer.alloc(16, 1));
/** Of a unit, less what giving the volume back may take. */
const ALLOWED_MS = 74_000;

test('programs that hang together take no longer than one', async (t) => {
  const { clock, world } = ticking();
  const below = `/block/${VOLUME}`;
  const loop = { name: '/dev/loop7', 'maj:min': '7:7', 'back-file': `${below}/${VOLUME}.block` };
  const listed = JSON.stringify({ loopdevices: [{ ...loop, ro: false }] });
  const place = { device: '7:7', source: '/dev/loop7', type: 'ext4', root: '/', readOnly: false };
  const table = ['/a', '/b'].map((mountPoint) => ({ ...place, mountPoint }));
  const ran: string[] = [];
  const run = async (
    command: string,
    args: readonly string[],
    timeoutMs: number,
  ): Promise<CommandOutput> => {
    if (args[0] === '--list') return { status: 0, stdout: listed, stderr: '' };
    ran.push([command, ...args].join(' '));
    await after(clock, timeoutMs);
    return { status: null, stdout: '', stderr: 'it hangs' };
  };
  const since = clock.monotonic();
  const deps = {
    ...{ clock, log: silentLog, commands: { run } as unknown as MachineCommands },
    host: { mounts: { table: () => table } as unknown as FuseMounts },
  };
  await world.wait(endDevices(deps, { kind: 'block', volume: 'db', directory: below }));
  const took = clock.monotonic() - since;
  t.ok(took <= ALLOWED_MS, `${took} ms`);
  t.ok(ran.includes('umount -i -c -l /a') && ran.includes('umount -i -c -l /b'), 'lazily at last');
});
