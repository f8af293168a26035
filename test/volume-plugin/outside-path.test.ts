/** Where the machine has what a managed plugin calls its propagated directory. */
import t from 'tap';
import { outsidePath } from '../../src/volume-plugin/outside-path.js';

type Place = Parameters<typeof outsidePath>[1][number];

const at = (device: string, root: string, mountPoint: string): Place => {
  return { device, root, mountPoint };
};
const INSIDE = [at('0:50', '/', '/'), at('8:1', '/docker/plugins/4d/shared', '/volumes')];

t.test('found by filesystem and place in it', async (t) => {
  const cases: [string, Place[]][] = [
    ['/var/lib/docker/plugins/4d/shared', [at('8:1', '/', '/var/lib')]],
    ['/docker/plugins/4d/shared', [at('8:1', '/', '/')]],
    ['/d/4d/shared', [at('8:1', '/', '/x'), at('8:1', '/docker/plugins', '/d')]],
    ['/own', [at('8:1', '/docker', '/d'), at('8:1', '/docker/plugins/4d/shared', '/own')]],
  ];
  for (const [path, outside] of cases) t.equal(outsidePath('/volumes', INSIDE, outside), path);
});

t.test('not found', async (t) => {
  const other = [at('8:2', '/', '/'), at('8:1', '/docker/plug', '/p')];
  t.throws(() => outsidePath('/volumes', INSIDE, other), { code: 'NOT_FOUND', hint: /pidhost/ });
  t.throws(() => outsidePath('/elsewhere', INSIDE, INSIDE), { message: /no mount point/ });
  t.throws(() => outsidePath('/volumes', [], []), { code: 'NOT_FOUND' });
});
