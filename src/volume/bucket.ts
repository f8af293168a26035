/**
 * What a checkpoint writes as one piece (a leaf of a tree, a page of the inode table) and what it
 * remembers of it. The piece is written again only when it has changed since its image.
 */

/** Where an image stands in the log. Several stand in one page; none crosses a record. */
export interface ImagePlace {
  /** Segment slot. */
  readonly segment: number;
  /** Bytes from the start of the segment. */
  readonly offset: number;
  readonly length: number;
}

export class Bucket {
  /** Changed since `image` was taken. */
  dirty = true;
  /** A checkpoint is under way that has still to take this bucket's image. */
  captured = false;
  /** In the newest durable checkpoint; null when it has none. */
  image: ImagePlace | null = null;
  /** In the checkpoint under way: null until its image is in the log. */
  nextImage: ImagePlace | null = null;
}

export type CaptureHook<T extends Bucket> = (bucket: T) => void;
