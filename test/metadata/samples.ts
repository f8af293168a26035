/** Small, readable ids and records for the metadata tests. */
import type { Incarnation, NodeId, OwnerId, SegmentId, VolumeId } from '../../src/core/ids.js';
import { lsn, offset } from '../../src/core/units.js';
import type { Replica } from '../../src/metadata/model.js';
import type { NewSegment } from '../../src/metadata/volume-record.js';
import { volumeRecord } from '../fixtures/volume-record.js';

/** 'a1' → a1 with zeroes in front. */
export const id = <T extends string>(text: string): T => text.padStart(32, '0') as T;
export const segmentId = (text: string): SegmentId => id(text);
export const VOLUME = id<VolumeId>('f01');

export const replicas = (...nodes: string[]): Replica[] =>
  nodes.map((node) => ({ node: id<NodeId>(node), incarnation: id<Incarnation>(`d${node}`) }));

export const THREE = replicas('1', '2', '3');

export const fresh = (segment: string): NewSegment => ({
  segment: segmentId(segment),
  group: 3,
  replicas: THREE,
});

export const owner = (text: string) => ({
  id: id<OwnerId>(text),
  address: '127.0.0.1:7000',
  released: false,
});

export const at = (segment: string, pages: number, endLsn: number) => ({
  segment: segmentId(segment),
  end: offset(pages * 4096),
  endLsn: lsn(endLsn),
  crc: pages === 0 ? 0 : 77,
});

/** Never owned. */
export const blank = volumeRecord(VOLUME);
