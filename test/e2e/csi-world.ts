/** What tests of the CSI driver begin with: a cluster, a driver, volumes for a kubelet. */
import type { Test } from 'tap';
import { CsiBed, type CsiDriver } from './csi-bed.js';
import { Kubelet, type VolumeWish } from './kubelet.js';
import { shell } from './mount-bed.js';

export const KUBELET_TEST_MS = 240_000;

export interface World {
  readonly bed: CsiBed;
  readonly driver: CsiDriver;
  provision(wish: VolumeWish): Promise<Kubelet>;
}

/** One for all tests of a file: each leaves nothing behind, and looks whether it has. */
export async function world(t: Test): Promise<World> {
  const bed = await CsiBed.start();
  t.teardown(() => bed.close());
  const driver = await bed.driver('node-1');
  await driver.call('NodeGetInfo');
  const { root } = bed.bed;
  return { bed, driver, provision: (wish) => Kubelet.provision(driver, root, wish) };
}

/** Runs a shell script and fails the test when that fails. */
export async function does(t: Test, script: string): Promise<string> {
  const { status, text } = await shell(script);
  t.equal(status, 0, `${script}: ${text}`);
  return text;
}
