//! Which texts and images belong together.

use crate::error::{EvalError, Result};

/// Which texts and images belong together. Any number on either side.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    by_text: Lists,
    by_image: Lists,
}

/// Sorted lists of items, one list per owner.
#[derive(Clone, Debug, PartialEq)]
struct Lists {
    ends: Vec<usize>,
    items: Vec<u32>,
}

impl Lists {
    /// From pairs sorted by owner, then by item.
    fn from_sorted(owners: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut lists = Self {
            ends: vec![0; owners],
            items: Vec::new(),
        };
        for (owner, item) in pairs {
            lists.items.push(item);
            lists.ends[owner as usize] = lists.items.len();
        }
        let mut end = 0;
        for e in &mut lists.ends {
            end = end.max(*e);
            *e = end;
        }
        lists
    }

    fn of(&self, owner: usize) -> &[u32] {
        let start = owner
            .checked_sub(1)
            .map_or(0, |previous| self.ends[previous]);
        &self.items[start..self.ends[owner]]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

impl Matches {
    /// From (text, image) pairs in any order. Fails if a pair names an item that does not exist.
    pub fn new(texts: usize, images: usize, mut pairs: Vec<(u32, u32)>) -> Result<Self> {
        if let Some((t, i)) = pairs
            .iter()
            .find(|(t, i)| *t as usize >= texts || *i as usize >= images)
        {
            let reason =
                format!("text {t} is matched to image {i}, but there are {texts} and {images}");
            return Err(EvalError::Features(reason));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let by_text = Lists::from_sorted(texts, pairs.iter().copied());
        pairs.sort_unstable_by_key(|&(text, image)| (image, text));
        let by_image = Lists::from_sorted(images, pairs.iter().map(|&(text, image)| (image, text)));
        Ok(Self { by_text, by_image })
    }

    /// One owner image per text: `owners[text]` is an image.
    pub fn of_owners(owners: &[usize], images: usize) -> Result<Self> {
        let pairs = owners
            .iter()
            .enumerate()
            .map(|(text, &image)| (text as u32, image as u32));
        Self::new(owners.len(), images, pairs.collect())
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.by_text.len()
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.by_image.len()
    }

    /// Images of a text, ascending.
    pub fn images_of(&self, text: usize) -> &[u32] {
        self.by_text.of(text)
    }

    /// Texts of an image, ascending.
    pub fn texts_of(&self, image: usize) -> &[u32] {
        self.by_image.of(image)
    }

    /// All (text, image) pairs, by text.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.texts()).flat_map(|t| self.images_of(t).iter().map(move |&i| (t as u32, i)))
    }
}
