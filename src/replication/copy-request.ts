/** The COPY that makes a disk's copy of a sealed segment whole, from the other replicas. */
import type { CopyRequest } from '../block/wire/messages.js';
import type { Incarnation, NodeId, VolumeId } from '../core/ids.js';
import { COPY_MAX_SOURCES } from '../core/limits.js';
import type { Replica, SealedSegment } from '../metadata/model.js';

/**
 * `addressOf`: null for a node that is not known, which is no source then; `isSource`: whether a
 * replica may be asked, where more is known of it. Without sources a disk whose copy is not whole
 * can only answer BUSY.
 */
export function copyRequest(
  volume: VolumeId,
  sealed: SealedSegment,
  to: Incarnation,
  addressOf: (node: NodeId) => string | null,
  isSource: (replica: Replica) => boolean = () => true,
): CopyRequest {
  const { segment, createEpoch, end, crc, replicas } = sealed;
  const sources = replicas
    .filter((one) => one.incarnation !== to && isSource(one))
    .flatMap(({ node, incarnation }) => {
      const address = addressOf(node);
      return address === null ? [] : [{ node, address, incarnation }];
    })
    .slice(0, COPY_MAX_SOURCES);
  return { type: 'copy', incarnation: to, segment, volume, createEpoch, sources, end, crc };
}
