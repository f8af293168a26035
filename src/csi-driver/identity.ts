/** Who the driver is, and whether it can work. The same in every mode. */
import { type Identity, PluginService, VolumeExpansion } from './messages.js';

/** Also in the CSIDriver object and in StorageClasses: never to be changed. */
export const DRIVER_NAME = 'csi.holdfast.io';

export function identityService(options: {
  readonly version: string;
  readonly isReady: () => boolean;
}): Identity {
  return {
    GetPluginInfo: async () => {
      return { name: DRIVER_NAME, vendor_version: options.version, manifest: {} };
    },
    GetPluginCapabilities: async () => {
      return {
        capabilities: [
          { service: { type: PluginService.CONTROLLER_SERVICE } },
          { service: { type: PluginService.VOLUME_ACCESSIBILITY_CONSTRAINTS } },
          { volume_expansion: { type: VolumeExpansion.ONLINE } },
        ],
      };
    },
    Probe: async () => ({ ready: { value: options.isReady() } }),
  };
}
