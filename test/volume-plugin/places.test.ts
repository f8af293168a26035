/** Where a managed plugin's volumes are mounted, bound and shown, and what is cleared away. */
import t from 'tap';
import { HoldfastError } from '../../src/core/errors.js';
import type { BindRequest } from '../../src/lifecycle/volume-types.js';
import { propagatedPlaces, samePlaces } from '../../src/volume-plugin/places.js';

t.test('shown by a bind mount, named as the machine names it', async (t) => {
  const done: unknown[] = [];
  const places = propagatedPlaces({
    root: '/var/lib/holdfast/volumes',
    propagated: '/volumes',
    propagatedOutside: '/docker/4d/propagated-mount',
    machineRoot: '/proc/1/root',
    machine: {
      bind: async (request: BindRequest) => void done.push(request),
      unbind: async (target: string) => void done.push(target),
    },
    commands: { removeEmpty: (path: string) => void done.push(path) },
  });
  t.equal(places.directory('db'), '/var/lib/holdfast/volumes/db');
  t.equal(places.shown('db'), '/volumes/db');
  t.equal(places.volumeAt('/var/lib/holdfast/volumes/db'), 'db');
  t.equal(places.volumeAt('/var/lib/holdfast/volumes/db/below'), null);
  await places.show('db');
  await places.hide('db');
  places.tidy('db');
  const outside = '/docker/4d/propagated-mount/db';
  t.same(done, [
    { source: '/var/lib/holdfast/volumes/db', target: outside },
    outside,
    '/proc/1/root/var/lib/holdfast/volumes/db',
  ]);
});

t.test('a directory that is not empty stays; any other trouble is said', async (t) => {
  const failing = (code: 'BUSY' | 'UNAVAILABLE') => {
    const removeEmpty = (): never => {
      throw new HoldfastError(code, 'no');
    };
    return samePlaces('/volumes', { removeEmpty }, (path) => path);
  };
  t.doesNotThrow(() => failing('BUSY').tidy('db'));
  t.throws(() => failing('UNAVAILABLE').tidy('db'), { code: 'UNAVAILABLE' });
});

t.test('its directory may be a symbolic link, or below one', async (t) => {
  const removeEmpty = (): void => {};
  const resolve = (path: string): string => path.replace(/^\/var\/lib\/holdfast/, '/data');
  const places = samePlaces('/var/lib/holdfast/volumes', { removeEmpty }, resolve);
  t.equal(places.volumeAt('/data/volumes/db'), 'db', 'as mounts are listed');
  t.equal(places.volumeAt('/data/db'), null);
  t.equal(places.shown('db'), '/var/lib/holdfast/volumes/db');
});
