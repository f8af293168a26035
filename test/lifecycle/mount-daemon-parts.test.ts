/** A mount that ends while its volume is loaded does not wait for what its owner never answers. */
import t from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import { unlessEnded } from '../../src/lifecycle/mount-daemon-parts.js';

const never = new Promise<never>(() => {});

t.test('work that ends first is what counts', async (t) => {
  t.equal(await unlessEnded(Promise.resolve(7), never), 7);
  const fault = new HoldfastError('NOT_FOUND', 'no such volume');
  await t.rejects(unlessEnded(Promise.reject(fault), never), fault);
});

t.test('the end rejects what is still under way', async (t) => {
  await t.rejects(unlessEnded(never, Promise.resolve(null)), { code: 'CLOSED' });
  const fault = new HoldfastError('FENCED', 'somebody else has it');
  await t.rejects(unlessEnded(never, Promise.resolve(fault)), fault);
});
