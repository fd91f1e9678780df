//! Lists that hold something. To AWS an empty list, or none, mostly means *all*: all groups of the account, all suspended
//! processes, all instances. No call is made with one.

/// A list with at least one element.
#[derive(Debug)]
pub struct NonEmpty<'a, T>(&'a [T]);

impl<T> Clone for NonEmpty<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for NonEmpty<'_, T> {}

impl<'a, T: Clone> NonEmpty<'a, T> {
    /// The list, if there is something in it.
    pub fn of(list: &'a [T]) -> Option<Self> {
        (!list.is_empty()).then_some(NonEmpty(list))
    }

    /// As the SDK's builders take it.
    pub fn parameter(self) -> Option<Vec<T>> {
        Some(self.0.to_vec())
    }

    /// In pieces of at most so many.
    pub fn pieces(self, most: usize) -> impl Iterator<Item = NonEmpty<'a, T>> {
        self.0.chunks(most).filter_map(NonEmpty::of)
    }

    /// The elements.
    pub fn as_slice(self) -> &'a [T] {
        self.0
    }
}
