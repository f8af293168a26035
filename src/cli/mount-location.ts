/** Where a mount daemon finds its cluster: its working directory is the root. */
import { resolve } from 'node:path';

/** With paths that hold from every directory. */
export function absoluteMetadata(metadata: string): string {
  if (metadata.startsWith('embedded:')) return `embedded:${resolve(metadata.slice(9))}`;
  return metadata.replace(/([?&](?:ca|cert|key)=)([^&]+)/g, (_, name: string, path: string) => {
    return name + encodeURIComponent(resolve(decodeURIComponent(path))).replaceAll('%2F', '/');
  });
}
