/** Who the driver is and what it can do. The same in every mode. */
import { type Identity, PluginService, VolumeExpansion } from './messages.js';

/** Also in the CSIDriver object and in StorageClasses: never to be changed. */
export const DRIVER_NAME = 'csi.holdfast.io';

export function identityService(version: string): Identity {
  return {
    GetPluginInfo: async () => ({ name: DRIVER_NAME, vendor_version: version, manifest: {} }),
    GetPluginCapabilities: async () => {
      return {
        capabilities: [
          { service: { type: PluginService.CONTROLLER_SERVICE } },
          { service: { type: PluginService.VOLUME_ACCESSIBILITY_CONSTRAINTS } },
          { volume_expansion: { type: VolumeExpansion.ONLINE } },
        ],
      };
    },
    // Also while the cluster cannot be reached: to restart this process would not help.
    Probe: async () => ({ ready: { value: true } }),
  };
}
