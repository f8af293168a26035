/**
 * csi.proto as grpc-js wants it. The file stands beside this one's source and is shipped with the
 * package: the compiled tree has no copy.
 */
import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../../../src/csi-driver/csi.proto', import.meta.url));

const definition = loadSync(PROTO, {
  keepCase: true,
  longs: String,
  enums: Number,
  defaults: true,
  arrays: true,
  objects: true,
  oneofs: true,
});

export type ServiceName = 'Identity' | 'Controller' | 'Node';

export function serviceDefinition(name: ServiceName): ServiceDefinition {
  return definition[`csi.v1.${name}`] as ServiceDefinition;
}
