// Package table keeps an ordered set of records in pages: few keys of the store
// instead of one a record, and small writes instead of one value for all.
//
// A [Table] is a view of the pages below one prefix. It is fed with events (of a
// watch, of a listing, of its owner's own transactions) by Apply and Reset, and
// tells which records changed. It plans writes by Stage, and leaves doing them
// to its owner. It is pure: it has no clock and no connection, and it is not
// safe for concurrent use.
//
// # Pages
//
// A page's key is the prefix and its lower bound, written so that the order of
// keys is the order of bounds and that people can read them. A page covers the
// records from its bound up to the next page's bound. The first page has the
// empty bound; it is the root. A page that grows beyond its size splits, small
// neighbours are merged, and an empty page is deleted. The root goes only when
// it is the last page and empty, so an emptied table leaves nothing behind, unless its
// codec says that the root stays.
//
//	tasks/          [ "",    "m"  )   root
//	tasks/m         [ "m",   "pq" )
//	tasks/m!+                         what has changed in [ "m", "pq" ) since
//	tasks/pq        [ "pq",  ∞    )
//
// # Patches
//
// A change of few records does not write their page anew, but a patch beside it: all
// records that have changed since the page was written, and the keys of those that
// are gone. When a patch would be more than about sqrt(2/n) of a page of n records,
// the page is written and the patch deleted in one transaction; so a change costs, on
// the average, as much as some ten records and not as much as a page.
//
// A patch is there only as long as the page that it is of: whoever writes, splits,
// merges or deletes a page deletes its patch with it, and a patch older than its page
// says nothing. In what follows the revision of a page is that of both keys, and every
// transaction compares both.
//
// # What cannot be read
//
// A page or patch that does not decode, does not hold what its key promises or
// contradicts its neighbour was written by somebody else. It is set aside: the page
// keeps what it held, if the table has seen all of its history, and Mend writes that
// again. If it has not, as after a listing, the page is lost: it counts as what was
// known last, or as empty, until it is written again or deleted. What a newer version
// of the code wrote is lost, too, and is not overwritten.
//
// # Several writers
//
// Any number of writers may stage and commit from views of any age. What is
// then promised: no update is lost, no record is in two pages or in a page that
// does not cover it. This is why:
//
//   - Every transaction compares the mod revision of each page that it writes,
//     patches, splits, merges or deletes with what the view knows. So of two writers that
//     touch the same page from the same view, one is refused.
//   - The range of a page shrinks only when the page splits, and a split writes
//     the page. So while a page's mod revision stands, its range only grows
//     (when its right neighbour is deleted).
//   - A view is a prefix of the history (the watch) and beyond it only whole
//     transactions of its owner, each of which was right about the pages that it
//     touched. From this follows: if a view knows a page at its true mod
//     revision, then the page's true range is at least the one in the view.
//     For assume that it were not: there is a page Q, unknown to the view, in
//     that range. Q came out of a split of some page X, X out of a split of a
//     page before, and so on down to the root. The first of these splits that
//     the view does not know wrote a page that the view does know, and knows
//     out of date; the owner can neither write nor delete it until the view has
//     caught up, so it stands in the view, between the page and Q or as the page
//     itself. Either contradicts the assumption.
//   - So a record that a transaction puts into a page is in the page's true
//     range, a page that it creates was truly covered by the one that it splits,
//     and pages that it merges are truly neighbours.
//   - A deleted page that comes back has a new mod revision. The root's absence
//     (mod revision 0) can come back, too; but the root is deleted only when it
//     is alone, so whenever it is absent the table is empty, and a writer that
//     creates it is right about that, however old its view. It need not hear of
//     the time before any more, and does not listen. What is right about pages may
//     still be late, after what it wrote was thought never to have been done: such
//     tables keep their root (Codec.Stays), or their writers have a guard.
//
// The argument needs all writes of a transaction to be applied together, and a
// watch's batches in order and unbroken; after a gap, Reset. Pages that are bound
// to a lease must all be bound to the same one, and their writers must compare a
// key of that lease, so that the whole table ends at once.
package table
