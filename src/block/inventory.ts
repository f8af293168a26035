/**
 * Pages of a disk's inventory in the order of ids. There may be hundreds of thousands of segments,
 * so a page is picked out in one pass, without sorting them all while everybody waits.
 */

/**
 * The `limit` smallest ids above `after` in order, and whether there are more. `ids` in any order,
 * each once.
 */
export function inventoryPage(
  ids: Iterable<string>,
  after: string,
  limit: number,
): { readonly page: string[]; readonly more: boolean } {
  let kept: string[] = [];
  let more = false;
  /** Nothing above it can be in the page; '' as long as the page is not full. */
  let bound = '';
  const shrink = (): void => {
    kept.sort();
    if (kept.length <= limit) return;
    more = true;
    kept = kept.slice(0, limit);
    bound = kept[limit - 1] ?? '';
  };
  for (const id of ids) {
    if (id <= after) continue;
    if (bound !== '' && id > bound) continue;
    kept.push(id);
    if (kept.length > limit * 2) shrink();
  }
  shrink();
  return { page: kept, more };
}
