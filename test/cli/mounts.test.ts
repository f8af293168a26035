/** What `holdfast mounts` says. */
import t from 'tap';
import { EXIT_CODES } from '../../src/cli/errors.js';
import { endText } from '../../src/cli/mounts.js';

t.test('how a mount that is over came to its end', async (t) => {
  const at = { directory: '/mnt/db' };
  t.equal(endText(at, null), 'The daemon of /mnt/db has died');
  t.equal(endText(at, '137\n'), 'The daemon of /mnt/db has died');
  t.match(endText(at, `${EXIT_CODES.FENCED}\n`), /^The mount at \/mnt\/db .* another owner$/);
  t.match(endText(at, '28\n'), /has ended \(INCONSISTENT\)$/);
});
