//! Many looks at Redis at once, in the order of what is looked at.

use futures_util::stream::{self, StreamExt, TryStreamExt};

/// Looks under way at once: their round trips are shared, and ten thousand queues are no matter of a minute.
const AT_ONCE: usize = 32;

/// Looks at each item; the first error ends it.
pub(crate) async fn side_by_side<I, R, E, L>(
    items: impl IntoIterator<Item = I>,
    look: impl FnMut(I) -> L,
) -> Result<Vec<R>, E>
where
    L: Future<Output = Result<R, E>>,
{
    stream::iter(items).map(look).buffered(AT_ONCE).try_collect().await
}
