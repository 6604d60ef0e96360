use burn::prelude::*;

/// Keys and values of the positions that a model has seen, for all layers.
///
/// Memory for the whole length is taken once and written in place.
#[derive(Debug)]
pub struct Cache<B: Backend> {
    pub(crate) layers: Vec<LayerCache<B>>,
    pub(crate) len: usize,
    capacity: usize,
}

impl<B: Backend> Cache<B> {
    /// Room for `capacity` positions; memory is taken with the first of them.
    pub fn new(layers: usize, capacity: usize) -> Self {
        let empty = || LayerCache {
            keys: None,
            values: None,
            capacity,
        };
        Self {
            layers: (0..layers).map(|_| empty()).collect(),
            len: 0,
            capacity,
        }
    }

    /// Forgets all rows but these.
    pub(crate) fn keep(&mut self, rows: &[usize], device: &Device<B>) {
        let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        let rows = Tensor::<B, 1, Int>::from_data(rows.as_slice(), device);
        for layer in &mut self.layers {
            for stored in [&mut layer.keys, &mut layer.values] {
                *stored = stored.take().map(|all| all.select(0, rows.clone()));
            }
        }
    }

    /// Positions seen so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position was seen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Keys and values of one layer, `[batch, kv_heads, capacity, head_dim]`.
#[derive(Debug)]
pub struct LayerCache<B: Backend> {
    keys: Option<Tensor<B, 4>>,
    values: Option<Tensor<B, 4>>,
    capacity: usize,
}

impl<B: Backend> LayerCache<B> {
    /// Writes keys and values from position `at` on; gives those of all positions so far.
    ///
    /// # Shapes
    ///
    /// - keys, values: `[batch, kv_heads, new, head_dim]`
    /// - output: `[batch, kv_heads, at + new, head_dim]`, twice
    pub(crate) fn extend(
        &mut self,
        keys: Tensor<B, 4>,
        values: Tensor<B, 4>,
        at: usize,
    ) -> [Tensor<B, 4>; 2] {
        let capacity = self.capacity;
        let write = |stored: &mut Option<Tensor<B, 4>>, new: Tensor<B, 4>| {
            let [batch, heads, len, dim] = new.dims();
            // Taken out while it is written to: backends write in place only what nobody else holds.
            let all = stored.take().unwrap_or_else(|| {
                Tensor::zeros([batch, heads, capacity, dim], (&new.device(), new.dtype()))
            });
            let all = all.slice_assign([0..batch, 0..heads, at..at + len, 0..dim], new);
            stored.insert(all).clone().narrow(2, 0, at + len)
        };
        [write(&mut self.keys, keys), write(&mut self.values, values)]
    }
}
